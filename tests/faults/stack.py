"""What the storm is let loose on: ./lab's own services in a home of their own, and the worker of a second node."""

import json
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import processes
from labmgr.bootstrap.processes import ProcessId
from tests.faults import built
from tests.faults.database import database
from tests.faults.history import LeftProcess
from tests.faults.postgresql import Postmaster
from tests.faults.second_node import SecondNode
from tests.lab import REPOSITORY, Lab

NODE_LOST_AFTER = 20
POSTGRES = "pg"
SETTINGS = {
    "SIMULATED_DEVICES": "6x80GiB",
    "LABMGR_CPU_SLOTS": "4",
    "LABMGR_GRACE_SECONDS": "1",
    "NODE_LOST_AFTER": str(NODE_LOST_AFTER),
}


class Stack:
    def __init__(self, folder: Path, *, checkout: Path = REPOSITORY, database_url: str = "") -> None:
        self.folder = folder
        self.clock = built.WallClock(folder)
        self.working = built.program(folder)
        self.ledger = folder / "ledger"
        chosen = {"DATABASE_URL": database_url} if database_url else {}
        self.lab = Lab(folder / "home", checkout=checkout, **SETTINGS, **chosen, **self.clock.environment)
        self.lab.home.mkdir(exist_ok=True)
        self.second = SecondNode(self.lab, folder / "second")
        loaded = configurations.load(self.lab.environment)
        self.database = database(loaded.environment["DATABASE_URL"])
        self.postmaster = Postmaster(folder / POSTGRES) if database_url else None
        self.redis_socket = loaded.redis_socket
        self.web_port = self.lab.port

    def start(self) -> None:
        """Whatever of it is not up, or was left stopped by a campaign that was cut off."""
        for process in [*self._of_homes(), *self._of_jobs()]:
            processes.send(process, signal.SIGCONT)
        self.lab.up()
        self.web_port = int(self._services()["listens"]["LABMGR_PORT"])
        self.second.start()
        assert processes.wait_until(lambda: self.second.is_ready, 120), "the second node is not ready"

    def stop(self) -> list[LeftProcess]:
        """The services, and then whatever is left; returns which services were."""
        self.second.end(signal.SIGTERM)
        self.lab.run("stop", "--keep-runs", timeout=200)
        left = [_told(process) for process in self._of_homes()]
        self.lab.run("stop", timeout=200)
        processes.end(self._of_jobs(), grace_seconds=1.0)
        return left

    def jobs_left(self) -> list[LeftProcess]:
        """Whose processes are there though no job should be. An agent that has a record open for a moment is none."""
        first = self._of_jobs()
        time.sleep(0.5)
        return [_told(process) for process in self._of_jobs() if process in first]

    def pid(self, service: str) -> int:
        """Raises ProcessLookupError where it does not run."""
        if service == "second":
            return self.second.pid
        found = processes.read_pid_file(self.lab.home / "run" / f"{service}.pid")
        if found is None or not found.is_alive:
            raise ProcessLookupError(f"{service} does not run")
        return found.pid

    def is_back(self, service: str, *, instead_of: int) -> bool:
        """Whether another process than that one serves, and says that it is ready."""
        if service == "second":
            return self.second.is_ready
        with suppress(OSError, ValueError, KeyError):
            told = self._services()["services"][service]
            return told["state"] == "ready" and told["pid"] not in (None, instead_of)
        return False

    def are_all_back(self) -> bool:
        with suppress(OSError, ValueError, KeyError):
            told = self._services()["services"].values()
            return self.second.is_ready and all(each["state"] == "ready" for each in told)
        return False

    def jobs_alive(self) -> dict[int, list[tuple[ProcessId, Path]]]:
        """The processes that bear the mark of a job of this stack, with its control folder."""
        found: dict[int, list[tuple[ProcessId, Path]]] = {}
        for pid in processes.all_pids():
            environment = processes.environment_of(pid)
            control = environment.get("LABMGR_CONTROL_DIR", "")
            process = processes.identify(pid)
            if control.startswith(f"{self.folder}/") and process and process.is_alive:
                found.setdefault(int(environment["LABMGR_JOB_ID"]), []).append((process, Path(control)))
        return found

    def _of_homes(self) -> list[ProcessId]:
        homes = (self.lab.home, self.second.home)
        return [found for home in homes for found in processes.of_home(home, lambda _: True)]

    def _of_jobs(self) -> list[ProcessId]:
        homes = (self.lab.home, self.second.home)
        return [found for home in homes for found in processes.of_jobs(home / "control")]

    def _services(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.lab.home / "run" / "services.json").read_text())
        return document


def _told(process: ProcessId) -> LeftProcess:
    return LeftProcess(pid=process.pid, command=processes.command_of(process.pid))
