"""A lab of several machines: PostgreSQL, Redis and the control worker on the head, `./lab worker` on the others."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.rows import dict_row

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import processes, services
from tests import postgres
from tests.lab import REPOSITORY, until
from tests.nodes.network import HEAD, Network

LOST_AFTER, GRACE = 10, 2


class Machines:
    """Started and stopped one by one; their homes are their own, the run root is shared."""

    def __init__(self, folder: Path, *, network: Network, socket_url: str, password: str) -> None:
        self.folder, self.network, self.password = folder, network, password
        self._socket_url = socket_url
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.runs = folder / "runs"
        self.runs.mkdir()
        self._connection = psycopg.connect(socket_url, autocommit=True, row_factory=dict_row)

    def environment(self, machine: str, *, database: str = "") -> dict[str, str]:
        head = self.network.address(HEAD)
        names = ("PATH", "LANG", "HOME", "LABMGR_ML_PYTHON")
        return {
            **{name: os.environ[name] for name in names if name in os.environ},
            "LABMGR_CONTROL_ENV": sys.prefix,
            "LABMGR_HOME": str(self.folder / machine),
            "LABMGR_RUN_ROOT": str(self.runs),
            "LABMGR_NODE_NAME": machine,
            "LABMGR_CPU_SLOTS": "2",
            "LABMGR_GRACE_SECONDS": str(GRACE),
            "NODE_LOST_AFTER": str(LOST_AFTER),
            "DATABASE_URL": database or f"postgresql://labmgr:{self.password}@{head}:5432/postgres",
            "REDIS_URL": f"redis://:{self.password}@{head}:6379/0",
        }

    def manage(self, *arguments: str) -> str:
        """On the head, by the socket."""
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "manage.py"), *arguments],
            env=self.environment(HEAD, database=self._socket_url),
            capture_output=True,
            text=True,
            cwd="/",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_head(self) -> None:
        self.manage("migrate", "--no-input", "--verbosity=0")
        self._spawn(
            "redis", HEAD, [str(services.redis_server(Path(sys.prefix))), "-"], given=self._redis_settings()
        )
        configuration = configurations.load(self.environment(HEAD))
        configuration.run_folder.mkdir(parents=True, exist_ok=True)
        command = list(services.control_worker(configuration, after=()).command)
        self._spawn(HEAD, HEAD, command, environment=dict(configuration.environment))
        until(
            lambda: bool(self.rows("SELECT 1 FROM scheduler_controlplane WHERE run_root_mark <> ''")),
            seconds=60,
        )

    def start(self, machine: str) -> None:
        """`./lab worker` there; returns when the node may be given jobs."""
        epoch = self.node(machine).get("session_epoch", 0)
        self._spawn(machine, machine, [sys.executable, str(REPOSITORY / "lab"), "worker"])

        def joined() -> bool:
            assert self._started[machine].poll() is None, self.log(machine)
            node = self.node(machine)
            return bool(node) and node["session_epoch"] > epoch and node["session_lost_at"] is None

        until(joined, seconds=90)

    def try_to_join(self, machine: str, *, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """A worker that is refused."""
        return subprocess.run(
            [*self.network.on(machine), sys.executable, str(REPOSITORY / "lab"), "worker"],
            env=environment,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=120,
        )

    def kill(self, machine: str) -> None:
        """The worker's process only, as the kernel would for want of memory."""
        self._started[machine].kill()
        self._started[machine].wait()

    def end(self) -> None:
        for process in reversed(self._started.values()):
            process.terminate()
        for process in self._started.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for home in self.folder.iterdir():
            processes.end(processes.supervisors_of(home / "control"), grace_seconds=GRACE + 3)
            processes.end(processes.of_jobs(home / "control"), grace_seconds=1)
        self._connection.close()

    def log(self, machine: str) -> str:
        return (self.folder / f"{machine}.log").read_text(errors="replace")

    def plan(self, document: Mapping[str, Any]) -> str:
        file = self.folder / f"{document['name']}.yaml"
        file.write_text(yaml.safe_dump(dict(document)))
        self.manage("plan", str(file), "--approve")
        return str(document["name"])

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self._connection.execute(query, values).fetchall()  # type: ignore[call-overload,no-any-return]

    def node(self, name: str) -> dict[str, Any]:
        return next(iter(self.rows("SELECT * FROM scheduler_node WHERE name = %s", name)), {})

    def run(self, name: str) -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM experiments_run WHERE name = %s", name)
        return row

    def jobs(self, name: str) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT j.*, n.name AS node FROM scheduler_job j JOIN scheduler_node n ON n.id = j.node_id "
            "WHERE j.title = %s ORDER BY j.id",
            name,
        )

    def _redis_settings(self) -> str:
        """By standard input: whoever may list processes reads their arguments."""
        address = self.network.address(HEAD)
        return f'bind {address}\nport 6379\nrequirepass {self.password}\nsave ""\ndir {self.folder}\n'

    def _spawn(
        self,
        name: str,
        machine: str,
        command: list[str],
        *,
        environment: dict[str, str] | None = None,
        given: str = "",
    ) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.network.on(machine), *command],
                env=environment or self.environment(machine),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(given.encode())
        process.stdin.close()
        self._started[name] = process


@contextmanager
def machines(folder: Path, *, network: Network) -> Iterator[Machines]:
    password = secrets.token_hex(12)
    listening = postgres.Network(
        namespace=network.namespace(HEAD),
        address=network.address(HEAD),
        clients=network.clients,
        password=password,
    )
    with postgres.server(listening) as url:
        made = Machines(folder, network=network, socket_url=url, password=password)
        try:
            yield made
        finally:
            made.end()
