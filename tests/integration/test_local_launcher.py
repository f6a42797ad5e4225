import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.launchers import process_tree, records
from scheduler.launchers.base import Ending, LaunchError
from scheduler.launchers.local import LocalLauncher
from tests.integration.launching import (  # noqa: F401 - fixtures are used by another name
    LONG_SECONDS,
    PROGRAMS,
    MakeRequest,
    ending,
    endings,
    fifo_fixture,
    is_alive,
    launcher_fixture,
    make_fixture,
    open_files,
    program,
    run,
)

# What a job gets and what is told of it


def test_an_exit_code_is_told(launcher: LocalLauncher, make: MakeRequest) -> None:
    record = run(launcher, make("sh", "-c", "exit 3"))
    assert (record.ending, record.exit_code, record.signal) == (Ending.EXITED, 3, None)
    assert record.message == "Exited with code 3."


def test_a_signal_is_told(launcher: LocalLauncher, make: MakeRequest) -> None:
    record = run(launcher, make("sh", "-c", "kill -SEGV $$"))
    assert (record.ending, record.exit_code, record.signal) == (Ending.EXITED, None, signal.SIGSEGV)


def test_output_and_errors_are_appended_to_the_log(launcher: LocalLauncher, make: MakeRequest) -> None:
    request = make("sh", "-c", "echo out; echo err >&2")
    request.log_path.write_text("before\n")
    run(launcher, request)
    assert request.log_path.read_text() == "before\nout\nerr\n"


def test_a_job_sees_its_own_environment_and_nothing_of_ours(
    launcher: LocalLauncher, make: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    request = make(*program("report.py"))
    run(launcher, request)
    marks = {"LABMGR_JOB_ID": "7", "LABMGR_CONTROL_DIR": str(request.control_dir)}
    assert json.loads(request.log_path.read_text())["env"] == {**request.env, **marks, **_added_by_python()}


def _added_by_python() -> dict[str, str]:
    command = [sys.executable, str(PROGRAMS / "report.py")]
    report = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    env: dict[str, str] = json.loads(report.stdout)["env"]  # LC_CTYPE, where the locale is C
    return env


def test_arguments_are_never_interpreted(launcher: LocalLauncher, make: MakeRequest, tmp_path: Path) -> None:
    hostile = ["; touch owned", "$(touch owned)", "`id`", "a b", "*", ""]
    request = make(*program("report.py", *hostile))
    run(launcher, request)
    assert json.loads(request.log_path.read_text())["argv"] == hostile
    assert not (tmp_path / "owned").exists()


def test_a_job_starts_as_by_a_fresh_login(launcher: LocalLauncher, make: MakeRequest, tmp_path: Path) -> None:
    request = make(*program("report.py"))
    run(launcher, request)
    report = json.loads(request.log_path.read_text())
    assert (report["cwd"], report["stdin"], report["leads_session"]) == (str(tmp_path), "/dev/null", True)
    assert report["descriptors"] == [0, 1, 2]
    assert report["blocked"] == []
    ignored = next(line for line in report["status"].splitlines() if line.startswith("SigIgn"))
    by_python = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    by_glibc = 1 << 31 | 1 << 32  # its own signals, 32 and 33
    assert int(ignored.split()[1], 16) & ~by_python & ~by_glibc == 0


def test_ignored_signals_of_the_agent_are_not_handed_on(make: MakeRequest, launcher: LocalLauncher) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        record = run(launcher, make("sh", "-c", "kill -USR1 $$; exit 0"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert record.signal == signal.SIGUSR1


def test_peak_memory_and_cpu_are_those_of_the_job(launcher: LocalLauncher, make: MakeRequest) -> None:
    large = run(launcher, make(sys.executable, "-c", "bytearray(100 << 20)", job_id=1))
    small = run(launcher, make("sleep", "0.01", job_id=2))
    assert large.peak_rss_mib and 100 <= large.peak_rss_mib < 200
    assert small.peak_rss_mib is None or small.peak_rss_mib < 8
    assert large.cpu_seconds and large.cpu_seconds > 0


@pytest.mark.parametrize("argv", [("no-such-program",), ("/no/such/program",), ("/dev/null",), ("a\0b",)])
def test_a_command_that_cannot_start_is_a_failed_launch(
    launcher: LocalLauncher, make: MakeRequest, argv: tuple[str, ...]
) -> None:
    record = run(launcher, make(*argv))
    assert record.ending is Ending.LAUNCH_FAILED
    assert "could not be started" in record.message


def test_control_records_are_private(launcher: LocalLauncher, make: MakeRequest) -> None:
    request = make("true")
    run(launcher, request)
    assert request.control_dir.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in request.control_dir.iterdir()} == {0}


def test_a_control_directory_that_cannot_be_made_is_a_launch_error(
    launcher: LocalLauncher, make: MakeRequest, tmp_path: Path
) -> None:
    (tmp_path / "control").write_text("in the way")
    with pytest.raises(LaunchError, match="Job 7 was not launched"):
        launcher.submit(make("true"))
    (tmp_path / "control").unlink()


# The end of a whole tree


def test_a_cancel_ends_the_whole_tree(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    launcher.submit(make(*program("stubborn_family.py", fifo, "stay")))
    grandchild = int(fifo.read_text())
    launcher.cancel(job_id=7)
    launcher.cancel(job_id=7)
    record = ending(launcher)
    assert (record.ending, record.signal) == (Ending.CANCELLED, signal.SIGTERM)
    assert not is_alive(grandchild)


def test_the_limit_ends_the_whole_tree(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    launcher.submit(make(*program("stubborn_family.py", fifo, "stay"), limit=1.0))
    grandchild = int(fifo.read_text())
    record = ending(launcher)
    assert record.ending is Ending.TIMED_OUT
    assert record.ended_at - record.started_at >= 1.0
    assert not is_alive(grandchild)


def test_what_a_job_leaves_behind_is_ended(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    launcher.submit(make(*program("stubborn_family.py", fifo, "leave")))
    grandchild = int(fifo.read_text())
    record = ending(launcher)
    assert (record.ending, record.exit_code) == (Ending.EXITED, 0)
    assert not is_alive(grandchild)


def test_a_tree_that_forks_away_is_caught(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    request = make(*program("moving_target.py", fifo))
    launcher.submit(request)
    fifo.read_text()
    launcher.cancel(job_id=7)
    record = ending(launcher)
    assert (record.ending, record.unkillable_pids) == (Ending.CANCELLED, ())
    assert process_tree.strays(job_id=7, control_dir=request.control_dir, leader=None) == []


def test_a_job_has_its_grace_to_save_its_work(launcher: LocalLauncher, make: MakeRequest, fifo: Path) -> None:
    request = make(*program("last_words.py", fifo), grace=LONG_SECONDS)
    launcher.submit(request)
    fifo.read_text()
    launcher.cancel(job_id=7)
    record = ending(launcher)
    assert (record.ending, record.exit_code) == (Ending.CANCELLED, 0)
    assert request.log_path.read_text() == "saved\n"


def test_cancelling_what_nobody_knows_does_nothing(launcher: LocalLauncher) -> None:
    launcher.cancel(job_id=404)
    assert launcher.wait(timeout_seconds=0) == []


def test_of_several_that_are_submitted_at_once_all_start_but_those_that_are_refused(
    make: MakeRequest, launcher: LocalLauncher
) -> None:
    requests = [make("true", job_id=number) for number in range(1, 6)]
    (requests[2].control_dir / records.LAUNCH).mkdir(parents=True)  # where its file has to be
    refused = launcher.submit_all(requests)
    assert set(refused) == {3} and "Job 3 was not launched" in str(refused[3])
    assert {record.job_id for record in endings(launcher, count=4)} == {1, 2, 4, 5}


def test_a_supervisor_keeps_none_of_the_descriptors_of_those_that_start_beside_it(
    make: MakeRequest, launcher: LocalLauncher, fifo: Path
) -> None:
    requests = [make("cat", str(fifo), job_id=number) for number in range(5)]
    assert launcher.submit_all(requests) == {}
    assert not [file for request in requests for file in open_files(request) if file.startswith("pipe:")]
    for request in requests:
        launcher.cancel(job_id=request.job_id)
    assert {record.ending for record in endings(launcher, count=5)} == {Ending.CANCELLED}
