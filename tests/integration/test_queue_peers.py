"""The other queues that labmgr is measured beside, really started: each runs everything once and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from scheduler.launchers import process_tree
from tests.benchmarks import gaps
from tests.benchmarks.queue_peers import PEERS, recorder
from tests.benchmarks.queue_peers.base import Work

OTHERS = [name for name in PEERS if not name.startswith("labmgr")]


@pytest.mark.parametrize("name", OTHERS)
def test_a_peer_runs_everything_once_in_its_slots_and_leaves_nothing_behind(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    peer = PEERS[name]
    if missing := peer.missing():
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp(name)
    work = Work(count=8, seconds=0.01, slots=4, recorder=recorder.build(folder), record=folder / "record")
    before = set(process_tree.descendants(os.getpid()))
    peer.run(work, folder)
    assert gaps.faults(recorder.read(work.record), expected=8, slots=4) == []
    assert set(process_tree.descendants(os.getpid())) <= before
    assert not _processes_of(folder)


def _processes_of(folder: Path) -> list[int]:
    """Also such as have left us."""
    mark = os.fsencode(folder)
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in _words(entry)
    ]


def _words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return b""
