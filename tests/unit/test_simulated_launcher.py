import threading
import time
from pathlib import Path

import pytest

from scheduler.launchers import process_tree, records
from scheduler.launchers.base import Adoption, Ending, LaunchError, LaunchRequest
from scheduler.launchers.simulated import SimulatedLauncher

LONG_SECONDS = 30.0  # never waited for, unless something is broken


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def launcher(clock: Clock) -> SimulatedLauncher:
    return SimulatedLauncher(clock=clock, wall_clock=clock)


def make_request(
    folder: Path, *, job_id: int = 7, duration: float | None = 10.0, limit: float = 60.0
) -> LaunchRequest:
    return LaunchRequest(
        job_id=job_id,
        argv=("train",),
        env={},
        cwd=folder,
        log_path=folder / "log",
        control_dir=folder / str(job_id),
        limit_seconds=limit,
        duration_seconds=duration,
    )


def test_a_job_ends_after_its_duration(launcher: SimulatedLauncher, clock: Clock, tmp_path: Path) -> None:
    launcher.submit(make_request(tmp_path))
    clock.now = 1009.9
    assert launcher.wait(timeout_seconds=0) == []
    clock.now = 1100.0
    [record] = launcher.wait(timeout_seconds=0)
    assert (record.ending, record.exit_code) == (Ending.EXITED, 0)
    assert (record.started_at, record.ended_at) == (1000.0, 1010.0)
    assert launcher.wait(timeout_seconds=0) == []


def test_a_job_ends_at_its_limit(launcher: SimulatedLauncher, clock: Clock, tmp_path: Path) -> None:
    launcher.submit(make_request(tmp_path, duration=100.0, limit=60.0))
    clock.now = 1060.0
    [record] = launcher.wait(timeout_seconds=0)
    assert (record.ending, record.exit_code, record.ended_at) == (Ending.TIMED_OUT, None, 1060.0)


def test_jobs_end_in_the_order_of_their_ends(
    launcher: SimulatedLauncher, clock: Clock, tmp_path: Path
) -> None:
    for job_id, duration in [(1, 30.0), (2, 10.0), (3, 20.0)]:
        launcher.submit(make_request(tmp_path, job_id=job_id, duration=duration))
    clock.now = 1020.0
    assert [record.job_id for record in launcher.wait(timeout_seconds=0)] == [2, 3]


def test_a_cancelled_job_ends_now_and_once(launcher: SimulatedLauncher, clock: Clock, tmp_path: Path) -> None:
    launcher.submit(make_request(tmp_path))
    clock.now = 1004.0
    launcher.cancel(job_id=7)
    launcher.cancel(job_id=7)
    clock.now = 1100.0
    [record] = launcher.wait(timeout_seconds=0)
    assert (record.ending, record.ended_at) == (Ending.CANCELLED, 1004.0)
    assert launcher.wait(timeout_seconds=0) == []


def test_a_cancel_that_comes_too_late_changes_nothing(
    launcher: SimulatedLauncher, clock: Clock, tmp_path: Path
) -> None:
    launcher.submit(make_request(tmp_path))
    clock.now = 1010.0
    launcher.cancel(job_id=7)
    launcher.cancel(job_id=404)
    assert [record.ending for record in launcher.wait(timeout_seconds=0)] == [Ending.EXITED]


def test_after_a_restart_a_job_goes_on_from_its_first_start(
    launcher: SimulatedLauncher, clock: Clock, tmp_path: Path
) -> None:
    request = make_request(tmp_path)
    launcher.submit(request)
    launcher.close()
    clock.now = 1008.0
    second = SimulatedLauncher(clock=clock, wall_clock=clock)
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.RUNNING
    assert second.wait(timeout_seconds=0) == []
    clock.now = 1010.0
    [record] = second.wait(timeout_seconds=0)
    assert (record.started_at, record.ended_at) == (1000.0, 1010.0)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_neither_ends_nor_keeps_a_job(step: float, clock: Clock, tmp_path: Path) -> None:
    wall = Clock()
    launcher = SimulatedLauncher(clock=clock, wall_clock=wall)
    request = make_request(tmp_path)
    launcher.submit(request)
    wall.now += step
    clock.now = 1009.9
    assert launcher.wait(timeout_seconds=0) == []
    clock.now = 1010.0
    [record] = launcher.wait(timeout_seconds=0)
    assert (record.started_at, record.ended_at) == (1000.0, 1010.0)
    second = SimulatedLauncher(clock=clock, wall_clock=wall)
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ENDED


def test_after_a_restart_of_the_machine_the_wall_clock_says_what_is_left(
    launcher: SimulatedLauncher, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(tmp_path)
    launcher.submit(request)
    monkeypatch.setattr(process_tree, "boot_id", lambda: "of the next boot")
    wall = Clock()
    clock.now, wall.now = 5.0, 1004.0
    second = SimulatedLauncher(clock=clock, wall_clock=wall)
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.RUNNING
    clock.now = 10.9
    assert second.wait(timeout_seconds=0) == []
    clock.now = 11.0
    assert [record.ended_at for record in second.wait(timeout_seconds=0)] == [1010.0]


def test_what_ended_is_told_again_after_a_restart(
    launcher: SimulatedLauncher, clock: Clock, tmp_path: Path
) -> None:
    request = make_request(tmp_path)
    launcher.submit(request)
    clock.now = 1010.0
    told = launcher.wait(timeout_seconds=0)
    second = SimulatedLauncher(clock=clock, wall_clock=clock)
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ENDED
    assert second.wait(timeout_seconds=LONG_SECONDS) == told


def test_a_job_that_was_never_started_is_absent(launcher: SimulatedLauncher, tmp_path: Path) -> None:
    request = make_request(tmp_path)
    assert launcher.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ABSENT
    records.write_launch(request)
    assert launcher.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ABSENT


def test_a_second_submit_does_not_start_the_job_anew(
    launcher: SimulatedLauncher, clock: Clock, tmp_path: Path
) -> None:
    launcher.submit(make_request(tmp_path))
    clock.now = 1005.0
    launcher.submit(make_request(tmp_path))
    clock.now = 1015.0
    assert [record.ended_at for record in launcher.wait(timeout_seconds=0)] == [1010.0]
    assert launcher.wait(timeout_seconds=0) == []


def test_a_job_without_a_duration_is_refused(launcher: SimulatedLauncher, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="duration_seconds"):
        launcher.submit(make_request(tmp_path, duration=None))


def test_a_wake_from_another_thread_ends_the_wait(launcher: SimulatedLauncher) -> None:
    started = time.monotonic()
    launcher.wake()
    assert launcher.wait(timeout_seconds=LONG_SECONDS) == []
    thread = threading.Thread(target=launcher.wake)
    thread.start()
    assert launcher.wait(timeout_seconds=LONG_SECONDS) == []
    thread.join()
    assert time.monotonic() - started < LONG_SECONDS


def test_the_wait_ends_with_the_job(tmp_path: Path) -> None:
    launcher = SimulatedLauncher()
    launcher.submit(make_request(tmp_path, duration=0.05))
    [record] = launcher.wait(timeout_seconds=LONG_SECONDS)
    assert record.ending is Ending.EXITED
