"""What the tests of the local launcher share. A job that a test leaves behind is ended after it."""

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.launchers import process_tree, records, spares
from scheduler.launchers.base import Adoption, ExitRecord, LaunchRequest
from scheduler.launchers.local import LocalLauncher
from scheduler.launchers.process_tree import Process
from tests.lab import until

PROGRAMS = Path(__file__).parent / "job_programs"
ROOT = Path(__file__).resolve().parents[2]
LONG_SECONDS = 30.0  # never waited for, unless something is broken

MakeRequest = Callable[..., LaunchRequest]


@pytest.fixture(name="make")
def make_fixture(tmp_path: Path) -> MakeRequest:
    def make_request(*argv: str, job_id: int = 7, limit: float = 60.0, grace: float = 0.2) -> LaunchRequest:
        return LaunchRequest(
            job_id=job_id,
            argv=argv,
            env={"PATH": os.environ["PATH"], "COLOUR": "blue; `red`"},
            cwd=tmp_path,
            log_path=tmp_path / f"{job_id}.log",
            control_dir=tmp_path / "control" / str(job_id),
            limit_seconds=limit,
            grace_seconds=grace,
        )

    return make_request


@pytest.fixture(name="launcher")
def launcher_fixture(tmp_path: Path) -> Iterator[LocalLauncher]:
    launcher = LocalLauncher()
    yield launcher
    launcher.close()
    _end_all(tmp_path / "control")


def _end_all(folder: Path) -> None:
    sweeper = LocalLauncher()
    adoptions = {
        int(path.name): sweeper.adopt(job_id=int(path.name), control_dir=path) for path in folder.glob("*")
    }
    for job_id in adoptions:
        sweeper.cancel(job_id=job_id)
    expected = sum(adoption is not Adoption.ABSENT for adoption in adoptions.values())
    endings(sweeper, count=expected)
    sweeper.close()


@pytest.fixture(name="fifo")
def fifo_fixture(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def endings(launcher: LocalLauncher, *, count: int) -> list[ExitRecord]:
    found: list[ExitRecord] = []
    deadline = time.monotonic() + LONG_SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} jobs ended: {found}"
        found += launcher.wait(timeout_seconds=1)
    return found


def ending(launcher: LocalLauncher) -> ExitRecord:
    [record] = endings(launcher, count=1)
    return record


def run(launcher: LocalLauncher, request: LaunchRequest) -> ExitRecord:
    launcher.submit(request)
    return ending(launcher)


def program(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAMS / name), *map(str, arguments)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def supervisor_of(request: LaunchRequest) -> Process:
    record = records.read_supervisor(request.control_dir)
    assert record and record.supervisor
    return record.supervisor


def open_files(request: LaunchRequest) -> list[str]:
    """Of its supervisor, which opens and closes others all the time."""
    found = []
    for descriptor in Path(f"/proc/{supervisor_of(request).pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return found


def spares_of(launcher: LocalLauncher) -> list[Process]:
    """The supervisors that wait for jobs, once all do; for a launcher without running jobs."""
    resident = launcher.resident_pid
    assert resident
    until(lambda: len(process_tree.descendants(resident)) == spares.COUNT, seconds=LONG_SECONDS)
    return process_tree.descendants(resident)


def children_of(launcher: LocalLauncher) -> list[int]:
    """Of its resident, zombies too."""
    resident = launcher.resident_pid
    return [int(pid) for pid in Path(f"/proc/{resident}/task/{resident}/children").read_text().split()]


def await_death(process: Process) -> None:
    pidfd = process_tree.open_pidfd(process)
    if pidfd is not None:
        assert select.select([pidfd], [], [], LONG_SECONDS)[0]
        os.close(pidfd)
