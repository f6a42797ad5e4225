"""A lab in a folder of its own, driven from outside as a person would: by ./lab and its database's rows."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labmgr.bootstrap.processes import read_pid_file

REPOSITORY = Path(__file__).resolve().parents[1]
LOOK_SECONDS = 0.5


class Lab:
    def __init__(self, home: Path, *, checkout: Path = REPOSITORY, **environment: str) -> None:
        self.home, self.checkout = home, checkout
        self.port, self.flower_port = free_port(), free_port()
        self.admin_password = ""
        names = ("PATH", "LANG", "HOME", "LABMGR_ML_PYTHON", "LABMGR_CONTROL_ENV")
        self.environment = {
            "LABMGR_CONTROL_ENV": sys.prefix,
            **{name: os.environ[name] for name in names if name in os.environ},
            "LABMGR_HOME": str(home),
            "LABMGR_PORT": str(self.port),
            "LABMGR_FLOWER_PORT": str(self.flower_port),
            "LABMGR_NODE_NAME": "here",
            "LABMGR_CPU_SLOTS": "2",
            "LABMGR_GRACE_SECONDS": "3",
            **environment,
        }

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.checkout / "lab"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd="/",
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def flower_password(self) -> str:
        return (self.home / "secrets" / "flower_password").read_text().strip()

    def up(self) -> None:
        """Start the services; the first time, keep the password that is shown once."""
        done = self.run("up", timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        if shown := re.search(r"the password (\S+)", done.stdout):
            self.admin_password = shown[1]

    def manage(self, *arguments: str) -> str:
        """What a command prints; a failing one fails the test with its words."""
        done = self.run("manage", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, document: Mapping[str, Any]) -> str:
        """Plan and approve a document; returns its name."""
        file = self.home / f"{document['name']}.yaml"
        file.write_text(yaml.safe_dump(dict(document)))
        self.manage("plan", str(file), "--approve")
        return str(document["name"])

    def summary(self, name: str) -> dict[str, dict[str, Any]]:
        """The summary's rows by the name of their cell."""
        return {
            row["name"]: row for row in json.loads(self.manage("summary", name, "--format", "json"))["runs"]
        }

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Rows of the lab's own database, read beside it."""
        connection = sqlite3.connect(self.home / "db" / "labmgr.sqlite3", timeout=30)
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def run_row(self, experiment: str, run: str) -> sqlite3.Row:
        (row,) = self.rows(
            "SELECT r.* FROM experiments_run r JOIN experiments_cell c ON c.id = r.cell_id "
            "JOIN experiments_experiment e ON e.id = c.experiment_id WHERE e.name = ? AND r.name = ?",
            experiment,
            run,
        )
        return row

    def wait_for_state(self, experiment: str, run: str, *states: str, seconds: float = 120) -> sqlite3.Row:
        until(lambda: self.run_row(experiment, run)["state"] in states, seconds=seconds)
        return self.run_row(experiment, run)

    def wait_for_log(self, experiment: str, run: str, text: str, *, seconds: float = 120) -> None:
        """Until a run's own output has a text in it."""
        until(lambda: text in self.log(experiment, run), seconds=seconds)

    def log(self, experiment: str, run: str) -> str:
        log = Path(self.run_row(experiment, run)["directory"]) / "output.log"
        return log.read_text(errors="replace") if log.is_file() else ""

    def kill(self, service: str, how: signal.Signals) -> None:
        os.kill(self.pid(service), how)

    def pid(self, service: str) -> int:
        """The process of a service, as the supervisor wrote it down."""
        process = read_pid_file(self.home / "run" / f"{service}.pid")
        assert process is not None, f"{service} does not run"
        return process.pid

    def processes(self) -> list[int]:
        """Every process that has to do with this lab: services, launchers, jobs."""
        return self._processes(str(self.home))

    def job_processes(self) -> list[int]:
        """Every process of any of this lab's jobs, supervisors included."""
        return self._processes(f"{self.home / 'control'}/", where=("environ",))

    def _processes(self, mark: str, where: tuple[str, ...] = ("environ", "cmdline")) -> list[int]:
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and any(mark.encode() in _bytes(entry / file) for file in where)
            and _state(entry) != "Z"
        ]


@dataclass(frozen=True)
class Demo:
    """What `./lab demo --exit` left."""

    lab: Lab
    exit_code: int
    output: str
    written_elsewhere: set[Path]  # in the repository, the person's own folder, or that of temporary files


def copy_of_the_repository(target: Path) -> Path:
    """What a clone would have, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    return target


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def until(reached: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {seconds} s"
        time.sleep(LOOK_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _state(process: Path) -> str:
    stat = _bytes(process / "stat").decode(errors="replace")
    return stat.rpartition(")")[2].split()[0] if stat else "Z"
