"""The observer: looks at the database and the processes several times a second, and writes down what it saw.

Where a look fails or takes too long, that time is written down as one in which nothing could be seen.
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import redis

from labmgr.bootstrap.health import web_answers
from labmgr.bootstrap.processes import ProcessId
from tests.faults import messages, rows
from tests.faults.database import AWAY, one
from tests.faults.history import Blind, Sample, Writer, now
from tests.faults.stack import Stack

EVERY_SECONDS = 0.25
BLIND_AFTER_SECONDS = 1.5
PROBE_EVERY_SECONDS = 0.5
CONSUMERS = 2  # at least so many workers wait for messages where the broker works
SENT = b"Sending due task"


class Observer(threading.Thread):
    def __init__(self, stack: Stack, writer: Writer, *, seen_at: float) -> None:
        super().__init__(name="observer", daemon=True)
        self._stack = stack
        self._writer = writer
        self._probes = Probes(stack)
        self._seen_at = seen_at
        self._stopping = threading.Event()
        self._looked = threading.Condition()
        self._last: tuple[float, Sample] | None = None  # with when that look began
        self.queued: dict[str, int] | None = None

    def run(self) -> None:
        self._probes.start()
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(EVERY_SECONDS)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        self._probes.stop()

    def look(self) -> None:
        began_at = now()
        try:
            sample = self._sample()
        except AWAY:
            self.queued = None
            return
        if sample.at - self._seen_at > BLIND_AFTER_SECONDS:
            self._writer.write(Blind(since=self._seen_at, until=sample.at))
        self._seen_at = sample.at
        self._writer.write(sample)
        with self._looked:
            self._last = began_at, sample
            self._looked.notify_all()

    def sees(self, wanted: Callable[[Sample], bool], *, seconds: float) -> bool:
        """Whether a look that begins from now on finds it so; waits for one until then."""
        since = now()

        def is_seen() -> bool:
            return self._last is not None and self._last[0] >= since and wanted(self._last[1])

        with self._looked:
            return self._looked.wait_for(is_seen, seconds)

    def unfinished(self) -> int | None:
        """How many runs are; None while nobody can see it."""
        with suppress(*AWAY):
            [found] = self._stack.database.look(rows.UNFINISHED)
            return int(one(found))
        return None

    def _sample(self) -> Sample:
        alive = self._stack.jobs_alive()
        ids = ", ".join(map(str, alive)) or "NULL"
        ended = f"SELECT id FROM scheduler_job WHERE state = 'ENDED' AND id IN ({ids})"
        *found, ended_jobs = self._stack.database.look(*rows.NOW, ended)
        at = now()
        self.queued = dict(found[-1])
        return Sample(
            at=at,
            **rows.of_now(found),
            ended_and_alive=_still_alive({job: alive[job] for (job,) in ended_jobs}),
            marks={**rows.marks(found), **self._probes.marks},
        )


def _still_alive(ended: dict[int, list[tuple[ProcessId, Path]]]) -> dict[int, tuple[int, ...]]:
    """Of jobs that the database calls ended, the processes that are there still, after it had said so."""
    left = {job: tuple(p.pid for p, _ in found if p.is_alive) for job, found in ended.items()}
    return {job: pids for job, pids in left.items() if pids}


class Probes(threading.Thread):
    """Asks the web server and the broker, and counts what beat sent. Each mark changes with every good answer."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(name="probes", daemon=True)
        self._stack = stack
        self._beat_log = stack.lab.home / "logs" / "beat.log"
        self._sent, self._read = 0, 0
        self._answers = count(1)
        self._stopping = threading.Event()
        self.marks: dict[str, str] = {}

    def run(self) -> None:
        web = threading.Thread(target=self._ask_web, daemon=True)  # which may take its time to say no
        web.start()
        while not self._stopping.wait(PROBE_EVERY_SECONDS):
            if self._redis_works():
                self.marks["redis"] = str(next(self._answers))
            self.marks["beat"] = str(self._beats())

    def stop(self) -> None:
        self._stopping.set()

    def _ask_web(self) -> None:
        while not self._stopping.wait(PROBE_EVERY_SECONDS):
            asked_at = time.monotonic()
            if web_answers("127.0.0.1", self._stack.web_port, "/admin/login/"):
                self.marks["web"] = str(asked_at)

    def _redis_works(self) -> bool:
        with suppress(redis.RedisError), closing(messages.client(self._stack.redis_socket)) as client:
            return int(client.info("clients")["blocked_clients"]) >= CONSUMERS
        return False

    def _beats(self) -> int:
        """Of a log that begins anew when it is rotated."""
        with suppress(FileNotFoundError):
            size = self._beat_log.stat().st_size
            with self._beat_log.open("rb") as log:
                log.seek(self._read if size >= self._read else 0)
                self._sent += log.read().count(SENT)
                self._read = log.tell()
        return self._sent
