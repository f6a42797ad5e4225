import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labmgr.bootstrap import processes
from labmgr.bootstrap.processes import ProcessId


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"LABMGR_HOME": str(tmp_path), "LABMGR_SERVICE": "web"}
    process = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_its_pid_and_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    process = processes.identify(sleeper.pid)
    assert process is not None
    assert process.is_alive
    assert not ProcessId(sleeper.pid, process.started_ticks - 1).is_alive


def test_a_stale_pid_file_whose_pid_was_reused_kills_nobody(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    path = tmp_path / "web.pid"
    processes.write_pid_file(path, sleeper.pid)
    text = path.read_text()
    path.write_text(text.replace('"started_ticks": ', '"started_ticks": 1'))
    stale = processes.read_pid_file(path)
    assert stale is not None
    assert processes.end([stale], grace_seconds=0.1) == []
    assert sleeper.poll() is None


def test_a_pid_file_of_an_earlier_boot_names_nobody(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    path = tmp_path / "web.pid"
    processes.write_pid_file(path, sleeper.pid)
    path.write_text(path.read_text().replace(processes.boot_id(), "another-boot"))
    assert processes.read_pid_file(path) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x"}'])
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "web.pid").write_text(text)
    assert processes.read_pid_file(tmp_path / "web.pid") is None


def test_what_ignores_term_is_killed() -> None:
    program = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout
        stubborn.stdout.readline()
        process = processes.identify(stubborn.pid)
        assert process is not None
        assert processes.end([process], grace_seconds=0.1) == []
        assert stubborn.wait() == -signal.SIGKILL


def test_processes_of_a_home_are_found_by_their_environment(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    found = processes.of_home(tmp_path, lambda environment: "LABMGR_SERVICE" in environment)
    assert [process.pid for process in found] == [sleeper.pid]
    assert processes.of_home(tmp_path / "other", lambda environment: True) == []


def test_what_a_service_left_in_its_group_is_found_without_its_leader(tmp_path: Path) -> None:
    script = "sleep 600 & echo $!"
    environment = os.environ | {"LABMGR_HOME": str(tmp_path), "LABMGR_SERVICE": "web"}
    with subprocess.Popen(
        ["sh", "-c", script], env=environment, start_new_session=True, stdout=subprocess.PIPE
    ) as leader:
        assert leader.stdout
        known = processes.identify(leader.pid)
        child = int(leader.stdout.readline())
        leader.wait()
        assert known is not None
        left = processes.group_of(tmp_path, "web", known)
        assert [process.pid for process in left] == [child]
        assert processes.end(left, grace_seconds=5) == []
