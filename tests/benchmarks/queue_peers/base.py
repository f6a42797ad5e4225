"""What the benchmark asks of a queue, and what they share."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks.gaps import UNKNOWN_SLOT

LOOK_SECONDS = 0.05  # at the record, of which only the size is asked
STALLED_SECONDS = 120.0
STOP_SECONDS = 10.0


class PeerError(Exception):
    """A peer did not start, or did not finish; the sentence says which and why."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """So many runs that each sleep, on so many slots."""

    count: int
    seconds: float
    slots: int
    recorder: Path
    record: Path  # what has run

    @property
    def title(self) -> str:
        return f"sleep {self.seconds:g}"

    def argv(self, name: str, slot: str = UNKNOWN_SLOT) -> list[str]:
        return [str(self.recorder), str(self.record), f"{self.seconds:g}", name, slot]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    submitted_at: float  # the moment at which the first run was handed over
    slot_of: Mapping[str, str] = field(default_factory=dict)  # where the queue tells it and its runs cannot
    details: Mapping[str, Any] = field(default_factory=dict)


class Peer(Protocol):
    name: str
    queue_on_disk: str  # what is left of its queue when the power fails

    def missing(self) -> str | None:
        """What has to be installed, if anything."""

    def run(self, work: Work, folder: Path) -> Outcome:
        """Start the queue, hand all runs over, wait for the last to end, and leave nothing behind."""


def wait_until_done(work: Work, *, check: Callable[[], None] = lambda: None) -> None:
    """Until every run has noted itself."""
    seen, since = -1, time.monotonic()
    while (ended := _lines(work.record)) < work.count:
        check()
        if ended != seen:
            seen, since = ended, time.monotonic()
        elif time.monotonic() - since > STALLED_SECONDS + work.seconds:
            raise PeerError(
                f"Only {ended} of {work.count} runs ended, and no more for {STALLED_SECONDS:.0f} s."
            )
        time.sleep(LOOK_SECONDS)


def lacking(programs: Sequence[str], *, install: str) -> str | None:
    absent = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(absent)} is not here; {install}" if absent else None


@contextmanager
def running(
    command: Sequence[str], log: Path, *, stop_by: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of a peer, for as long as it is measured."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        yield process
    finally:
        process.send_signal(stop_by)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(reached: Callable[[], bool], *, what: str, log: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise PeerError(f"{what} was not ready after {seconds:.0f} s: {tail(log)}")
        time.sleep(LOOK_SECONDS)


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-500:] if log.exists() else ""


def _lines(record: Path) -> int:
    return record.read_bytes().count(b"\n") if record.exists() else 0
