"""./lab from outside, and the supervisor with stand-ins for its services."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import demo, files, health, processes, services, stack
from labmgr.bootstrap.configuration import REPOSITORY, Configuration
from labmgr.bootstrap.output import Progress

LAB = REPOSITORY / "lab"
STAND_INS = """
from labmgr.bootstrap import configuration, services, supervisor
from labmgr.bootstrap.services import Service

def stand_ins(loaded):
    return [
        services.redis(loaded),
        Service("web", ("sleep", "600"), after=("redis",)),
        Service("node", ("sh", "-c", "trap '' TERM; sleep 600 & sleep 600"), after=("redis",), grace_seconds=0.2),
    ]

services.of = stand_ins
supervisor.main(configuration.load())
"""


def lab(*arguments: str, home: Path, path: Path = LAB, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")
    }
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment, "LABMGR_HOME": str(home), **more},
        cwd="/",
    )


def test_an_older_python_is_told_so_in_a_sentence() -> None:
    pretend = (
        "import runpy, sys; sys.version_info = (3, 8, 10, 'final', 0); sys.argv = ['lab'];"
        f"runpy.run_path({str(LAB)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("labmgr needs Python 3.11 or newer, and this is Python 3.8 (")
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_older_python_can_read_the_file_that_tells_it() -> None:
    ast.parse(LAB.read_text(), feature_version=(3, 4))
    assert LAB.stat().st_mode & 0o111


def test_it_works_through_a_link_and_from_any_folder(tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(LAB)
    done = lab("status", "--json", home=tmp_path / "home", path=link)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["is_up"] is False
    assert not (tmp_path / "home").exists()


def test_a_node_needs_to_know_the_lab_it_joins(tmp_path: Path) -> None:
    done = lab("worker", home=tmp_path)
    assert done.returncode == 2
    assert "set DATABASE_URL and REDIS_URL" in done.stderr


def test_a_taken_port_ends_up_before_anything_is_installed(tmp_path: Path, taken_port: int) -> None:
    done = lab("up", home=tmp_path, LABMGR_PORT=str(taken_port), LABMGR_CONTROL_ENV=str(tmp_path / "none"))
    assert done.returncode == 2
    assert f"Port {taken_port}, meant for the admin, cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    loaded = configurations.load(
        {**os.environ, "LABMGR_HOME": str(tmp_path / "h"), "LABMGR_CONTROL_ENV": sys.prefix}
    )
    files.make_folders(loaded)
    return loaded


@pytest.fixture
def supervisor(configuration: Configuration) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**configuration.environment, "LABMGR_SERVICE": "supervisor"}
    log = (configuration.logs / "services.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", STAND_INS], env=environment, stderr=log, start_new_session=True, cwd=REPOSITORY
    )
    log.close()
    try:
        assert processes.wait_until(lambda: states(configuration) == ["ready"] * 3, 10), files.last_lines(
            configuration.logs / "services.log"
        )
        yield process
    finally:
        stack.stop(configuration, keep_runs=True)
        process.wait(timeout=10)


def states(configuration: Configuration) -> list[str]:
    return [state.state for state in health.service_states(configuration)]


def pid_of(configuration: Configuration, service: str) -> int:
    process = processes.read_pid_file(configuration.run_folder / f"{service}.pid")
    assert process is not None
    return process.pid


def ours(configuration: Configuration) -> list[processes.ProcessId]:
    return processes.of_home(configuration.home, lambda environment: "LABMGR_SERVICE" in environment)


def test_a_service_that_was_killed_is_started_again_and_told(
    configuration: Configuration, supervisor: subprocess.Popen[bytes]
) -> None:
    assert health.redis_answers(configuration.redis_socket)
    before = pid_of(configuration, "web")
    os.kill(before, signal.SIGKILL)
    assert processes.wait_until(lambda: pid_of(configuration, "web") != before, 10)
    assert processes.wait_until(lambda: states(configuration) == ["ready"] * 3, 10)
    web = next(state for state in health.service_states(configuration) if state.name == "web")
    assert web.restarts == 1
    assert "was ended by SIGKILL" in web.last_end


def test_a_service_that_is_not_up_is_named_and_makes_the_exit_code_1(
    configuration: Configuration,
    supervisor: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stack, "_experiments", lambda _: [])
    assert stack.status(configuration, as_json=False) == 0
    assert capsys.readouterr().out.startswith("labmgr is up; ")
    supervisor.send_signal(signal.SIGSTOP)  # or it would start the service again before anybody looks
    try:
        os.kill(pid_of(configuration, "web"), signal.SIGKILL)
        assert processes.wait_until(lambda: "stopped" in states(configuration), 10)
        assert stack.status(configuration, as_json=False) == 1
        assert capsys.readouterr().out.startswith("labmgr is up but for web; ")
        assert stack.status(configuration, as_json=True) == 1
        assert json.loads(capsys.readouterr().out)["not_ready"] == ["web"]
    finally:
        supervisor.send_signal(signal.SIGCONT)
    assert processes.wait_until(lambda: stack.status(configuration, as_json=False) == 0, 10)


def test_the_addresses_are_those_of_the_lab_that_is_up(
    configuration: Configuration,
    supervisor: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stack, "_experiments", lambda _: [])
    asked = configurations.load(
        {**os.environ, "LABMGR_HOME": str(configuration.home), "LABMGR_PORT": "18999"}
    )
    stack.up(asked, Progress(quiet=True))
    told = capsys.readouterr().out
    assert f"up already, with LABMGR_PORT={configuration.port}." in told
    assert stack.status(asked, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["web"] == configuration.web_url
    stack.up(configuration, Progress(quiet=True))
    assert capsys.readouterr().out == "labmgr is up already.\n"


def test_stop_leaves_nothing_behind(
    configuration: Configuration, supervisor: subprocess.Popen[bytes]
) -> None:
    assert len(ours(configuration)) >= 5  # the node's worker has children, and ignores TERM
    assert stack.stop(configuration, keep_runs=True)
    assert ours(configuration) == []
    assert list(configuration.run_folder.glob("*.pid")) == []
    assert not stack.stop(configuration, keep_runs=True)


def test_what_a_killed_supervisor_left_behind_is_found_and_ended(
    configuration: Configuration, supervisor: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "ENDING_GRACE_SECONDS", 0.2)
    supervisor.kill()
    supervisor.wait()
    assert health.redis_answers(configuration.redis_socket)
    assert not health.is_up(configuration)
    stack.end_orphans(configuration)
    assert ours(configuration) == []


def test_jobs_outlive_the_services_only_if_they_are_to_be_kept(
    configuration: Configuration, capsys: pytest.CaptureFixture[str]
) -> None:
    control = configuration.home / "control" / "17"
    control.mkdir()
    environment = {"LABMGR_JOB_ID": "17", "LABMGR_CONTROL_DIR": str(control), "PATH": os.environ["PATH"]}
    with (
        (control / "supervisor.lock").open("w") as lock,
        subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True) as job,
        subprocess.Popen(["sleep", "600"], env={}, pass_fds=[lock.fileno()]) as supervisor_of_job,
        subprocess.Popen(
            ["sleep", "600"], env=environment | {"LABMGR_CONTROL_DIR": "/other/control/17"}
        ) as stranger,
    ):
        lock.close()
        stack.stop(configuration, keep_runs=True)
        assert [job.poll(), supervisor_of_job.poll()] == [None, None]
        stack.stop(configuration, keep_runs=False)
        assert [job.wait(5), supervisor_of_job.wait(5)] == [-signal.SIGTERM, -signal.SIGTERM]
        assert "Ending 1 job that had been kept running." in capsys.readouterr().out
        assert stranger.poll() is None
        stranger.kill()


def test_beat_is_a_service_of_its_own_and_so_is_started_again(tmp_path: Path) -> None:
    environment = {"LABMGR_HOME": str(tmp_path), "REDIS_URL": "redis://:secret@cache:6379/0"}
    configuration = configurations.load(environment)
    (tmp_path / "secrets").mkdir()
    by_name = {service.name: service for service in services.of(configuration)}
    assert "beat" in by_name["beat"].command
    assert "-B" not in by_name["control"].command


def test_flowers_password_is_not_on_its_command_line(configuration: Configuration) -> None:
    flower = services.flower(configuration)
    password = (configuration.secrets / "flower_password").read_text()
    assert password not in " ".join(flower.command)
    assert flower.environment["FLOWER_BASIC_AUTH"].endswith(password)


def test_the_demo_models_are_copied_once(tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "models"
    (source / "tiny").mkdir(parents=True)
    destination.mkdir()
    (source / "tiny" / "config.json").write_text("{}")
    demo.copy_models(source, destination)
    copied = destination / "tiny" / "config.json"
    first = copied.stat()
    demo.copy_models(source, destination)
    assert copied.stat().st_ino == first.st_ino
    (source / "tiny" / "config.json").write_text('{"changed": true}')
    demo.copy_models(source, destination)
    assert copied.read_text() == '{"changed": true}'
    assert [path.name for path in destination.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("cells", "code"),
    [({"SUCCEEDED": 6}, 0), ({"SUCCEEDED": 5, "FAILED": 1}, 1), ({}, 1), ({"SUCCEEDED": 6, "FAILED": 0}, 0)],
)
def test_the_demo_exits_with_zero_only_if_every_cell_succeeded(cells: dict[str, int], code: int) -> None:
    assert demo.exit_code({"cells": cells}) == code
