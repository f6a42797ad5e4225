"""The worker of a second node on the same machine, as `./lab worker` there would run it; a stand-in for its systemd."""

import os
import signal
import subprocess
from pathlib import Path

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import processes
from labmgr.bootstrap.processes import ProcessId
from tests.lab import Lab

NAME = "second"


class SecondNode:
    def __init__(self, lab: Lab, home: Path) -> None:
        self.home = home
        self._checkout = lab.checkout
        self._log = home / "logs" / "node.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file = home / "worker.pid"
        shared = configurations.load(lab.environment).environment
        names = ("DATABASE_URL", "REDIS_URL", "LABMGR_RUN_ROOT", "LABMGR_MODEL_ROOTS")
        given = {
            **lab.environment,
            **{name: shared[name] for name in names if name in shared},
            "LABMGR_HOME": str(home),
            "LABMGR_NODE_NAME": NAME,
        }
        made = configurations.load(given).environment
        self._environment = {**made, "LABMGR_SERVICE": NAME, "PYTHONPATH": str(lab.checkout)}
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0

    @property
    def pid(self) -> int:
        found = self._found()
        if found is None:
            raise ProcessLookupError("the second node's worker does not run")
        return found.pid

    @property
    def is_ready(self) -> bool:
        with self._log.open("rb") as file:
            file.seek(self._offset)
            return self._found() is not None and b" ready." in file.read()

    def start(self) -> None:
        """Anew, or for the first time."""
        self.end()
        with self._log.open("ab") as log:
            self._offset = log.tell()
            self._process = subprocess.Popen(
                [self._environment["LABMGR_CONTROL_ENV"] + "/bin/python", "-m", "labmgr.bootstrap.worker"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._checkout,
                env=self._environment,
                start_new_session=True,
            )
        processes.write_pid_file(self._pid_file, self._process.pid)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Also one that an earlier campaign in this folder left."""
        if found := self._found():
            os.kill(found.pid, how)
            if not processes.wait_until(lambda: not found.is_alive, 20.0):
                os.kill(found.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(20.0)

    def _found(self) -> ProcessId | None:
        found = processes.read_pid_file(self._pid_file)
        return found if found and found.is_alive else None
