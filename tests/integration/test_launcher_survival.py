import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scheduler.launchers import process_tree, records, resident_handle, spares
from scheduler.launchers.base import Adoption, Ending, LaunchRequest
from scheduler.launchers.local import LocalLauncher
from scheduler.launchers.process_tree import Process
from scheduler.launchers.resident_handle import ResidentHandle
from tests.integration.launching import (  # noqa: F401 - fixtures are used by another name
    LONG_SECONDS,
    ROOT,
    MakeRequest,
    await_death,
    children_of,
    ending,
    endings,
    fifo_fixture,
    is_alive,
    launcher_fixture,
    make_fixture,
    program,
    run,
    spares_of,
    supervisor_of,
)
from tests.lab import until


def has_a_leader(request: LaunchRequest) -> bool:
    record = records.read_supervisor(request.control_dir)
    return record is not None and record.leader is not None


# One tree a job


def test_a_job_that_is_submitted_twice_runs_once(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("sh", "-c", f"echo started; cat {fifo}")
    other = LocalLauncher()
    launcher.submit(request)
    other.submit(request)
    fifo.write_text("")
    assert ending(launcher) == ending(other)
    other.close()
    assert request.log_path.read_text() == "started\n"


def test_of_two_residents_that_race_for_a_job_one_wins(make: MakeRequest, launcher: LocalLauncher) -> None:
    residents, barrier = (ResidentHandle(), ResidentHandle()), threading.Barrier(2)
    requests = [make("echo", "started", job_id=number) for number in range(20)]
    for request in requests:
        records.write_launch(request)

    def race(resident: ResidentHandle) -> None:
        for request in requests:
            barrier.wait(LONG_SECONDS)
            resident.launch([request.control_dir])
        resident.stop()

    threads = [threading.Thread(target=race, args=[resident]) for resident in residents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for request in requests:
        launcher.adopt(job_id=request.job_id, control_dir=request.control_dir)
    assert {record.exit_code for record in endings(launcher, count=len(requests))} == {0}
    assert {request.log_path.read_text() for request in requests} == {"started\n"}


def test_a_job_whose_supervisor_was_lost_is_not_started_again(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("sh", "-c", f"echo started; echo > {fifo}; sleep 60")
    launcher.submit(request)
    fifo.read_text()
    launcher.close()
    os.kill(supervisor_of(request).pid, signal.SIGKILL)
    resident = ResidentHandle()
    assert "had one" in resident.launch([request.control_dir])[0]
    resident.stop()
    second = LocalLauncher()
    second.submit(request)
    assert ending(second).ending is Ending.SUPERVISOR_LOST
    second.close()
    assert request.log_path.read_text() == "started\n"


# What dies, and what lives on


def test_jobs_outlive_the_resident_launcher(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    launcher.submit(make("cat", str(fifo), job_id=1))
    killed = launcher.resident_pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    launcher.submit(make("true", job_id=2))
    assert launcher.resident_pid not in (killed, None)
    assert ending(launcher).job_id == 2
    fifo.write_text("still here")
    record = ending(launcher)
    assert (record.job_id, record.exit_code) == (1, 0)


def test_the_strays_of_a_killed_supervisor_are_killed(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make(*program("stubborn_family.py", fifo, "stay"))
    launcher.submit(request)
    grandchild = int(fifo.read_text())
    os.kill(supervisor_of(request).pid, signal.SIGKILL)
    record = ending(launcher)
    assert (record.ending, record.exit_code) == (Ending.SUPERVISOR_LOST, None)
    assert not is_alive(grandchild)
    assert records.read_exit(request.control_dir) == record


def test_a_job_whose_control_folder_is_deleted_while_it_is_watched_is_lost(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("cat", str(fifo))
    launcher.submit(request)
    until(lambda: has_a_leader(request), seconds=LONG_SECONDS)  # the last record before its end
    shutil.rmtree(request.control_dir)
    fifo.write_text("")
    assert ending(launcher).ending is Ending.SUPERVISOR_LOST
    assert launcher.wait(timeout_seconds=0) == []


def test_strays_without_their_environment_are_found_by_their_session(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("env", "-i", "/bin/sh", "-c", f"sleep 60 & echo $! > {fifo}; wait")
    launcher.submit(request)
    child = int(fifo.read_text())
    until(lambda: has_a_leader(request), seconds=LONG_SECONDS)
    os.kill(supervisor_of(request).pid, signal.SIGKILL)
    assert ending(launcher).ending is Ending.SUPERVISOR_LOST
    assert not is_alive(child)


def test_jobs_outlive_an_agent_killed_with_its_whole_process_group(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("cat", str(fifo))
    records.write_launch(request)
    code = (
        "from pathlib import Path; from scheduler.launchers import records, local; import signal\n"
        f"local.LocalLauncher().submit(records.read_launch(Path({str(request.control_dir)!r})))\n"
        "print('submitted', flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, process_group=0) as agent:
        assert agent.stdout and agent.stdout.readline() == b"submitted\n"
        os.killpg(agent.pid, signal.SIGKILL)
    assert launcher.adopt(job_id=7, control_dir=request.control_dir) is Adoption.RUNNING
    fifo.write_text("")
    assert ending(launcher).exit_code == 0


def test_signals_to_the_agents_session_reach_neither_resident_nor_supervisor(
    launcher: LocalLauncher, make: MakeRequest
) -> None:
    request = make("sleep", "60")
    launcher.submit(request)
    resident, supervisor = launcher.resident_pid, supervisor_of(request).pid
    assert resident and os.getsid(resident) == resident
    assert os.getsid(supervisor) == supervisor


def test_a_new_launcher_adopts_a_running_job(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    request = make("sh", "-c", f"cat {fifo}; exit 5")
    launcher.submit(request)
    launcher.close()
    second = LocalLauncher()
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.RUNNING
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.RUNNING
    fifo.write_text("")
    assert ending(second).exit_code == 5
    second.close()


def test_what_ended_while_nobody_watched_is_told(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("sh", "-c", f"cat {fifo}; exit 5")
    launcher.submit(request)
    supervisor = supervisor_of(request)
    launcher.close()
    fifo.write_text("")
    await_death(supervisor)
    second = LocalLauncher()
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ENDED
    assert ending(second).exit_code == 5
    second.close()


def test_a_job_that_never_got_a_supervisor_is_absent(launcher: LocalLauncher, make: MakeRequest) -> None:
    request = make("true")
    assert launcher.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ABSENT
    records.write_launch(request)
    assert launcher.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ABSENT
    assert run(launcher, request).exit_code == 0


def test_a_job_whose_records_are_gone_is_ended_and_not_launched_again(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("sh", "-c", f"echo $$ > {fifo}; sleep 60")
    launcher.submit(request)
    pid = int(fifo.read_text())
    launcher.close()
    supervisor = supervisor_of(request)
    shutil.rmtree(request.control_dir)
    second = LocalLauncher()
    adoption = second.adopt(job_id=7, control_dir=request.control_dir, was_launched=True)
    assert adoption is Adoption.LOST
    assert not is_alive(pid)
    await_death(supervisor)
    assert ending(second).ending is Ending.SUPERVISOR_LOST
    assert second.adopt(job_id=7, control_dir=request.control_dir) is Adoption.ENDED
    second.close()


@pytest.mark.parametrize("times", [1, 3])
def test_a_resident_launcher_that_is_killed_is_started_again(
    launcher: LocalLauncher, make: MakeRequest, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    start, started = resident_handle._start, []

    def start_and_kill() -> object:
        made = start()
        started.append(made.process.pid)
        if len(started) <= times:
            made.process.kill()
            made.process.wait()
        return made

    monkeypatch.setattr(resident_handle, "_start", start_and_kill)
    assert run(launcher, make("true")).exit_code == 0
    assert len(started) == times + 1


def test_a_restart_of_the_machine_leaves_nothing_to_kill(
    launcher: LocalLauncher, make: MakeRequest, tmp_path: Path
) -> None:
    request = make("sleep", "60")
    records.write_launch(request)
    marks = process_tree.marks(job_id=7, control_dir=request.control_dir)
    before = records.SupervisorRecord(supervisor=Process(1, 1), boot_id="of before", started_at=time.time())
    records.write_supervisor(request.control_dir, before)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **marks}) as lookalike:
        assert launcher.adopt(job_id=7, control_dir=request.control_dir) is Adoption.LOST
        assert is_alive(lookalike.pid)
        lookalike.kill()
    assert "restarted" in ending(launcher).message


# The launcher itself


def test_a_wake_is_not_lost_before_the_wait(launcher: LocalLauncher) -> None:
    started = time.monotonic()
    launcher.wake()
    assert launcher.wait(timeout_seconds=LONG_SECONDS) == []
    thread = threading.Thread(target=launcher.wake)
    thread.start()
    assert launcher.wait(timeout_seconds=LONG_SECONDS) == []
    thread.join()
    assert time.monotonic() - started < LONG_SECONDS


def test_a_wake_after_the_end_is_harmless() -> None:
    launcher = LocalLauncher()
    launcher.close()
    launcher.wake()


def test_an_unreadable_ending_stays_open_until_somebody_mends_it(
    launcher: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("cat", str(fifo))
    launcher.submit(request)
    unreadable = request.control_dir / records.EXIT
    unreadable.write_text("{")
    fifo.write_text("")
    await_death(supervisor_of(request))
    assert launcher.wait(timeout_seconds=0) == []
    started = time.monotonic()
    assert launcher.wait(timeout_seconds=0.2) == []
    assert time.monotonic() - started >= 0.2  # it goes on blocking, rather than turn in circles
    unreadable.unlink()
    assert ending(launcher).ending is Ending.SUPERVISOR_LOST


def test_a_hundred_launches_leave_no_zombies(
    launcher: LocalLauncher, make: MakeRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, wall = time.process_time(), time.monotonic()
    for number in range(100):
        launcher.submit(make("true", job_id=number))
    assert {record.exit_code for record in endings(launcher, count=100)} == {0}
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    assert len(spares_of(launcher)) == spares.COUNT
    assert len(children_of(launcher)) == spares.COUNT
    with capsys.disabled():
        sys.stdout.write(
            f"\n  a launch: {cpu * 10:.2f} ms CPU of the agent, {wall * 10:.1f} ms until all had ended\n"
        )
