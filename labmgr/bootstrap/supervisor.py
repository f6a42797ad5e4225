"""The resident parent of all services of one home directory: starts them in order, starts again what died.

It is detached from the terminal, holds a lock while it lives, and keeps its state in run/services.json. Jobs are not
its children: they are detached by design and outlive it.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import files, processes, services
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, warn
from labmgr.bootstrap.services import Service

FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0  # seconds before a service that died is started again
HEALTHY_AFTER = 30.0  # seconds of life after which the next death is a first one again


@dataclass
class Child:
    service: Service
    log: Path
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    log_offset: int = 0
    started: float = 0.0
    due: float = 0.0
    delay: float = FIRST_DELAY
    restarts: int = 0
    last_end: str = ""

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def look_whether_ready(self, now: float) -> bool:
        """True when this look found it ready."""
        if self.is_ready or not self.is_running:
            return False
        wanted = self.service.ready_text.encode()
        with self.log.open("rb") as file:
            file.seek(self.log_offset)
            self.is_ready = wanted in file.read() or now - self.started > self.service.ready_seconds
        return self.is_ready


class Supervisor:
    def __init__(
        self, chosen: Sequence[Service], *, run_folder: Path, logs: Path, environment: dict[str, str]
    ) -> None:
        self.children = {service.name: Child(service, logs / f"{service.name}.log") for service in chosen}
        self.run_folder = run_folder
        self.environment = environment
        self.stopping = False
        self.wake_reader, self.wake_writer = os.pipe()
        for descriptor in (self.wake_reader, self.wake_writer):
            os.set_blocking(descriptor, False)

    def run(self) -> None:
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            while not self.stopping:
                self.look()
                self._sleep()
        finally:
            self.stop()

    def look(self) -> None:
        """One pass: note what died, start what is due and may start, note what became ready."""
        now = time.monotonic()
        changed = False
        for child in self.children.values():
            if child.process is not None and child.process.poll() is not None:
                self._note_end(child, now)
                changed = True
            if child.process is None and now >= child.due and self._may_start(child):
                self._start(child, now)
                changed = True
            changed |= child.look_whether_ready(now)
        if changed:
            self.write_state()

    def stop(self) -> None:
        """TERM to all that nothing depends on, then to what they depended on; KILL after their grace."""
        waited_for = {name for child in self.children.values() for name in child.service.after}
        running = [child for child in reversed(self.children.values()) if child.process is not None]
        for wave in (
            [child for child in running if child.service.name not in waited_for or child.service.after],
            [child for child in running if child.service.name in waited_for and not child.service.after],
        ):
            self._end(wave)
        self.write_state()

    def write_state(self) -> None:
        state = {
            name: {
                "pid": child.process.pid if child.process else None,
                "state": "ready" if child.is_ready else "starting" if child.process else "waiting",
                "restarts": child.restarts,
                "last_end": child.last_end,
            }
            for name, child in self.children.items()
        }
        listens = {
            name: self.environment[name] for name in configurations.LISTENING if name in self.environment
        }
        document = {"pid": os.getpid(), "stopping": self.stopping, "listens": listens, "services": state}
        processes.write_atomically(self.run_folder / "services.json", json.dumps(document, indent=1))

    def _may_start(self, child: Child) -> bool:
        return all(self.children[name].is_ready for name in child.service.after)

    def _start(self, child: Child, now: float) -> None:
        files.rotate(child.log)
        environment = {**self.environment, **child.service.environment, "LABMGR_SERVICE": child.service.name}
        with child.log.open("ab") as log:
            child.log_offset = log.tell()
            try:
                child.process = subprocess.Popen(
                    child.service.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                self._plan_restart(child, now, f"cannot be started: {error}")
                return
        child.started, child.is_ready = now, not child.service.ready_text
        processes.write_pid_file(self.run_folder / f"{child.service.name}.pid", child.process.pid)
        note(f"{child.service.name} started, pid {child.process.pid}")

    def _note_end(self, child: Child, now: float) -> None:
        assert child.process is not None
        code, lived = child.process.returncode, now - child.started
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        end_group(child.process.pid)
        child.process = None
        if lived > HEALTHY_AFTER:
            child.delay = FIRST_DELAY
        self._plan_restart(child, now, f"{how} after {lived:.1f} s")

    def _plan_restart(self, child: Child, now: float, why: str) -> None:
        child.last_end, child.due, child.is_ready = why, now + child.delay, False
        child.restarts += 1
        note(f"{child.service.name} {why}; starts again in {child.delay:g} s (restart {child.restarts})")
        child.delay = min(child.delay * 2, LONGEST_DELAY)

    def _end(self, wave: Sequence[Child]) -> None:
        for child in wave:
            if child.process is not None:
                child.process.terminate()
        told = time.monotonic()
        for child in wave:
            if child.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(
                        timeout=max(0.0, told + child.service.grace_seconds - time.monotonic())
                    )
                end_group(child.process.pid)
                child.process.wait()
                child.process, child.is_ready = None, False
            (self.run_folder / f"{child.service.name}.pid").unlink(missing_ok=True)
            note(f"{child.service.name} stopped")

    def _sleep(self) -> None:
        """Until a signal, the next restart that is due, or soon where something is still becoming ready."""
        now = time.monotonic()
        waits = [
            child.due - now for child in self.children.values() if child.process is None and child.due > now
        ]
        becoming = any(not child.is_ready for child in self.children.values())
        timeout = max(0.01, min([*waits, 0.1 if becoming else 5.0]))
        if select.select([self.wake_reader], [], [], timeout)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake_reader, 4096)

    def _on_stop(self, *_: object) -> None:
        self.stopping = True


def end_group(group: int) -> None:
    """What a service left behind; its number cannot be reused while a member lives."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def note(text: str) -> None:
    warn(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}")


@contextlib.contextmanager
def sole_supervisor(lock: Path) -> Iterator[TextIO]:
    with lock.open("a+") as file:
        for attempt in range(20):  # somebody who only looks whether it is held holds it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 19:
                    raise LabError("Another supervisor runs for this home directory.") from None
                time.sleep(0.05)
        yield file


def main(configuration: Configuration) -> None:
    with sole_supervisor(configuration.run_folder / "services.lock"):
        processes.write_pid_file(configuration.run_folder / "supervisor.pid", os.getpid())
        supervisor = Supervisor(
            services.of(configuration),
            run_folder=configuration.run_folder,
            logs=configuration.logs,
            environment=dict(configuration.environment),
        )
        try:
            supervisor.run()
        finally:
            (configuration.run_folder / "supervisor.pid").unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main(configurations.load())
    except LabError as error:
        warn(str(error))
        sys.exit(error.code)
