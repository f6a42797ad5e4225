"""Whose a process is, and what that leaves of a GPU; the reading itself is made up here."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.inventory import foreign, owners
from scheduler.inventory.foreign import ForeignUse
from scheduler.inventory.nvml import Gpu, GpuProcess
from scheduler.inventory.owners import Presence


@pytest.fixture
def other() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


@pytest.fixture
def gone() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def use(
    *processes: tuple[int, int | None],
    used_mib: int = 0,
    is_held: bool = False,
    ours: tuple[int, ...] = (),
    tolerated: str = "",
    listed: bool = True,
) -> ForeignUse:
    told = tuple(GpuProcess(pid=pid, memory_mib=mib) for pid, mib in processes)
    gpu = Gpu(
        index=0,
        uuid="GPU-0",
        model_name="H100",
        memory_mib=80000,
        used_mib=used_mib,
        processes=told if listed else None,
    )
    return foreign.of_gpu(
        gpu,
        job_of=lambda pid: 7 if pid in ours else None,
        is_held=is_held,
        tolerated=frozenset({tolerated} - {""}),
    )


def test_what_several_take_is_added_up_and_each_is_named(other: int) -> None:
    found = use((other, 3000), (os.getpid(), 2000))
    assert found.memory_mib == 5000
    assert f"(pid {other})" in found.sentence and f"(pid {os.getpid()})" in found.sentence


def test_our_jobs_are_not_counted(other: int) -> None:
    assert use((other, 70000), ours=(other,)) == ForeignUse()


def test_a_process_of_unknown_memory_leaves_nothing_to_offer(other: int) -> None:
    assert use((other, None)).memory_mib == 80000


def test_a_process_that_takes_nothing_yet_keeps_the_gpu_from_being_whole(other: int) -> None:
    assert use((other, 0)).memory_mib == 1


def test_a_process_that_has_ended_is_not_counted(gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_INITIAL_PID_NAMESPACE", Path("/proc/self/ns/pid").stat().st_ino)
    assert owners.presence(gone) is Presence.GONE
    assert use((gone, 500)) == ForeignUse()


def test_a_program_that_is_tolerated_is_not_counted(other: int) -> None:
    name = owners.program(other)
    assert name and use((other, 4), tolerated=name) == ForeignUse()
    assert use((other, 4), tolerated="Xorg").memory_mib == 4


@pytest.mark.parametrize(
    ("presence", "held", "counted"),
    [
        (Presence.HIDDEN, True, True),
        (Presence.HIDDEN, False, True),
        (Presence.UNKNOWN, False, True),
        (Presence.UNKNOWN, True, False),  # of another namespace: it may well be our own job's
    ],
)
def test_a_process_that_cannot_be_seen_is_anothers_unless_it_may_be_our_own(
    monkeypatch: pytest.MonkeyPatch, gone: int, presence: Presence, held: bool, counted: bool
) -> None:
    monkeypatch.setattr(owners, "presence", lambda pid: presence)
    found = use((gone, 500), is_held=held)
    assert (found.memory_mib, bool(found.sentence)) == ((500, True) if counted else (0, False))


@pytest.mark.parametrize(
    ("used", "held", "counted"), [(1024, False, 0), (1025, False, 1025), (9000, True, 0)]
)
@pytest.mark.parametrize("listed", [True, False])
def test_memory_that_no_process_accounts_for_is_anothers_while_we_hold_nothing(
    used: int, held: bool, counted: int, listed: bool
) -> None:
    assert use(used_mib=used, is_held=held, listed=listed).memory_mib == counted
