"""What a campaign waits for at its end is a look of the observer that began after everything had ended."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults import rows
from tests.faults.database import Rows
from tests.faults.history import Sample, Writer, now
from tests.faults.observer import Observer
from tests.faults.stack import Stack


class Looked:
    """A stack's database, in which a job is open until it is told otherwise."""

    def __init__(self) -> None:
        self.open_jobs: Rows = [(1, "here", "RUNNING", "wait")]

    def look(self, *questions: str) -> list[Rows]:
        return [self.open_jobs if question == rows.OPEN_JOBS else [] for question in questions]


@pytest.fixture
def looked() -> Looked:
    return Looked()


@pytest.fixture
def observer(tmp_path: Path, looked: Looked) -> Iterator[Observer]:
    stack: Any = SimpleNamespace(
        lab=SimpleNamespace(home=tmp_path), database=looked, jobs_alive=dict[int, list[Any]]
    )
    writer = Writer(tmp_path / "history.jsonl")
    yield Observer(cast(Stack, stack), writer, seen_at=now())
    writer.close()


def is_at_rest(sample: Sample) -> bool:
    return not sample.open_jobs


def test_what_was_seen_before_is_not_waited_for(observer: Observer, looked: Looked) -> None:
    looked.open_jobs = []
    observer.look()
    assert not observer.sees(is_at_rest, seconds=0.01)


def test_the_look_that_sees_it_ends_the_wait(observer: Observer, looked: Looked) -> None:
    is_over = threading.Event()

    def look_until_over() -> None:
        while not is_over.wait(0.01):
            observer.look()
            looked.open_jobs = []

    looking = threading.Thread(target=look_until_over)
    looking.start()
    try:
        assert observer.sees(is_at_rest, seconds=30)
    finally:
        is_over.set()
        looking.join()
