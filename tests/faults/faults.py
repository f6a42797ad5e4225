"""How each kind of fault is done, and how it is told that what it hit is there again."""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import redis

from labmgr.bootstrap import processes
from scheduler.launchers import process_tree, records
from tests.faults import messages
from tests.faults.database import SQLite
from tests.faults.history import Fault, Writer, now
from tests.faults.stack import Stack
from tests.faults.storm import Planned

QUEUES = [
    "control",
    *(f"gpu.{node}.{index}" for node in ("here", "second") for index in range(4)),
    "gpu.here-simulated.0",
    "gpu.second-simulated.0",
]
STEPS_SECONDS = (-7200.0, -600.0, -30.0, 0.0, 30.0, 600.0, 7200.0)  # of the wall clock, from the true time
RESTARTED_AFTER_SECONDS = 1.0  # what systemd would take for the second node's worker

Returned = Callable[[], bool]


class NotThere(Exception):
    """What was to be hit is away already, or not there yet."""


@dataclass(frozen=True)
class Done:
    returned: Returned
    job: int | None = None
    component: str | None = None  # where it is not that of the kind


class Faults:
    def __init__(self, stack: Stack, writer: Writer) -> None:
        self._stack = stack
        self._writer = writer
        self._away: list[tuple[Fault, Returned]] = []
        self._how: dict[str, Callable[[str, Planned], Done]] = {
            "kill": self._kill,
            "stop": self._stop,
            "lose": self._kill,
            "freeze": self._stop,
            "flush": self._flush,
            "drop": self._rob,
            "double": self._rob,
            "delay": self._rob,
            "hold": self._hold,
            "set": self._set_clock,
            "restart": self._end_database,
            "crash": self._end_database,
        }

    def do(self, planned: Planned, *, number: int) -> bool:
        """False where there was nothing to hit."""
        verb, _, target = planned.kind.name.partition("_")
        at = now()
        try:
            done = self._how[verb](target, planned)
        except (NotThere, ProcessLookupError, redis.RedisError):
            return False
        component = planned.kind.component if done.component is None else done.component
        fault = Fault(number=number, kind=planned.kind.name, component=component, at=at, job=done.job)
        self._writer.write(fault)
        self._away.append((fault, done.returned))
        return True

    def look(self) -> None:
        """Bring back what is due, and write down what has returned."""
        left = []
        for fault, returned in self._away:
            if returned():
                self._writer.write(replace(fault, returned_at=now()))
            else:
                left.append((fault, returned))
        self._away = left

    @property
    def are_over(self) -> bool:
        return not self._away

    def _kill(self, target: str, planned: Planned) -> Done:
        if target == "resident":
            return self._kill_resident()
        if target == "supervisor":
            return self._kill_supervisor(planned)
        if target == "node_and_supervisor":
            hit = self._kill_supervisor(planned)
            return replace(self._kill("node", planned), job=hit.job)
        if target == "second":
            return self._kill_second(planned)
        pid = self._stack.pid(target)
        os.kill(pid, signal.SIGKILL)
        return Done(lambda: self._stack.is_back(target, instead_of=pid))

    def _kill_second(self, planned: Planned) -> Done:
        self._stack.second.end()
        due, started = now() + max(planned.seconds, RESTARTED_AFTER_SECONDS), False

        def returned() -> bool:
            nonlocal started
            if now() >= due and not started:
                self._stack.second.start()
                started = True
            return started and self._stack.second.is_ready

        return Done(returned)

    def _kill_resident(self) -> Done:
        os.kill(self._resident(), signal.SIGKILL)
        return Done(lambda: True)  # it is started when it is needed

    def _resident(self) -> int:
        for process in process_tree.descendants(self._stack.pid("node")):
            if "scheduler.launchers.resident" in processes.command_of(process.pid):
                return process.pid
        raise NotThere

    def _kill_supervisor(self, planned: Planned) -> Done:
        job, supervisor = self._supervisor(planned)
        process_tree.send_signal(supervisor, signal.SIGKILL)
        return Done(lambda: True, job=job)

    def _supervisor(self, planned: Planned) -> tuple[int, process_tree.Process]:
        alive = sorted(self._stack.jobs_alive().items())
        if not alive:
            raise NotThere
        job, found = alive[int(planned.pick * len(alive))]
        record = records.read_supervisor(found[0][1])
        if record is None or record.supervisor is None:
            raise NotThere
        return job, record.supervisor

    def _stop(self, target: str, planned: Planned) -> Done:
        """A service with its whole group; others alone."""
        if target == "supervisor":
            _, supervisor = self._supervisor(planned)
            return self._stopped(lambda how: process_tree.send_signal(supervisor, how), planned, component="")
        if target == "resident":
            resident = process_tree.find(self._resident())
            assert resident is not None
            return self._stopped(lambda how: process_tree.send_signal(resident, how), planned)
        group = self._stack.pid(target)
        return self._stopped(lambda how: os.killpg(group, how), planned)

    def _stopped(
        self, send: Callable[[int], None], planned: Planned, *, component: str | None = None
    ) -> Done:
        send(signal.SIGSTOP)
        due = now() + planned.seconds

        def returned() -> bool:
            if now() < due:
                return False
            try:
                send(signal.SIGCONT)
            except ProcessLookupError:
                pass  # it was killed meanwhile
            return True

        return Done(returned, component=component)

    def _flush(self, target: str, planned: Planned) -> Done:
        with closing(messages.client(self._stack.redis_socket)) as client:
            client.flushall()
        return Done(lambda: True)

    def _rob(self, target: str, planned: Planned) -> Done:
        what = planned.kind.name.partition("_")[0]
        thief = messages.Thief(self._stack.redis_socket, queues=QUEUES, seconds=planned.seconds, what=what)
        thief.start()
        return Done(lambda: not thief.is_alive())

    def _hold(self, target: str, planned: Planned) -> Done:
        """Nobody can write meanwhile; on PostgreSQL nobody gets any answer."""
        if postmaster := self._stack.postmaster:
            return self._stopped(postmaster.signal_all, planned)
        database = self._stack.database
        assert isinstance(database, SQLite)

        def hold() -> None:
            with closing(sqlite3.connect(database.path, timeout=20, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(planned.seconds)
                connection.execute("ROLLBACK")

        holding = threading.Thread(target=hold, daemon=True)
        holding.start()
        return Done(lambda: not holding.is_alive())

    def _end_database(self, target: str, planned: Planned) -> Done:
        postmaster = self._stack.postmaster
        assert postmaster is not None
        ended = postmaster.pid
        postmaster.end(orderly=planned.kind.name == "restart_database")
        return Done(lambda: postmaster.is_ready() and postmaster.pid != ended)

    def _set_clock(self, target: str, planned: Planned) -> Done:
        self._stack.clock.set(ahead_seconds=random.Random(planned.pick).choice(STEPS_SECONDS))
        return Done(lambda: True)
