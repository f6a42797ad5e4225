import os
from pathlib import Path

import pytest

from scheduler.launchers.spares import Spares


def fail_to_fork() -> int:
    raise BlockingIOError("no more processes")


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_where_nothing_can_be_forked_the_launch_says_so_and_no_descriptor_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fork", fail_to_fork)
    before = open_descriptors()
    with pytest.raises(BlockingIOError, match="no more processes"):
        Spares(channel=0).launch("/nowhere")
    assert open_descriptors() == before


def test_no_more_are_forked_ahead_until_the_next_launch_where_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fork", fail_to_fork)
    spares = Spares(channel=0)
    spares.add()
    assert not spares.are_wanted
    with pytest.raises(BlockingIOError):
        spares.launch("/nowhere")
    assert spares.are_wanted
