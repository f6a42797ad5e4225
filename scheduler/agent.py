"""The agent: one a node, in its worker. It claims, launches, watches and ends the node's jobs, from the database alone.

Messages only make it look sooner. It survives a database that is away for a while: what ended meanwhile is kept
and written when it is back.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from django.db import DatabaseError, connection
from django.utils import timezone

from experiments.states import OPEN_JOB_STATES, JobState, RunKind
from scheduler import dispatch, inventory, losing, measuring, watching
from scheduler.dispatch import request_tick
from scheduler.inventory import NodeReading
from scheduler.launchers.base import Adoption, ExitRecord, Launcher
from scheduler.models import Job, Node
from scheduler.placed import Charge, paths_of
from scheduler.sessions import Keeper, Session, Standing

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
INSPECT_EVERY_SECONDS = 0.25  # for what people asked of jobs, and what shared engines have finished
MIRRORED_AFTER = timedelta(seconds=0.25)
BATCH = 64  # of jobs that are ended in a transaction
_ATTACH_LOOK_SECONDS = 30.0


class Agent(threading.Thread):
    def __init__(self, *, reading: NodeReading, launcher: Launcher, send: Callable[[Charge], None]) -> None:
        super().__init__(name=f"agent of {reading.name}", daemon=True)
        self._reading = reading
        self._launcher = launcher
        self._send = send
        self._stopping = threading.Event()
        self._opened = False
        self._adopted = False
        self._unsaved: list[ExitRecord] = []
        self._to_launch: list[Charge] = []
        self._watched: dict[int, Charge] = {}  # by job: claimed or adopted, and not ended
        self._unmirrored: list[Charge] = []
        self._attached: dict[int, threading.Event] = {}
        self._inspect_at = 0.0  # monotonic
        self._session = Session(node_name=reading.name)
        self._node = Node(name=reading.name)

    def run(self) -> None:
        keeper = Keeper(self._session, changed=self.wake)
        keeper.start()
        while not self._stopping.is_set():
            try:
                self.step(timeout_seconds=LOOK_EVERY_SECONDS)
            except DatabaseError:
                log.exception(
                    "the database is away; the jobs go on, and what ends is written when it is back"
                )
                connection.close()
                self._looks_anew()
            except Exception:  # an agent that died would leave its whole node unwatched
                log.exception("a fault of the agent; it looks again in a moment")
                self._looks_anew()
        keeper.stop()
        self._launcher.close()
        connection.close()

    def step(self, *, timeout_seconds: float) -> None:
        """Look once at everything; waits at most so long for a job to end."""
        if not self._opened:
            self._open()
        if not self._adopted:
            self._adopt_all()
        self._unsaved += self._launcher.wait(timeout_seconds=0 if self._to_launch else timeout_seconds)
        freed = self._end()
        if freed:
            self._refill()
            self._launch()
        is_time = time.monotonic() >= self._inspect_at
        if is_time or not freed:
            self._take(watching.claim(node=self._node, now=timezone.now()))
            self._launch()
        if is_time:
            self._inspect()
            self._mirror()
        self._keep_session(timezone.now())

    def wake(self) -> None:
        self._launcher.wake()

    def stop(self) -> None:
        """Stop watching; the jobs live on, and the next agent adopts them."""
        self._stopping.set()
        self.wake()
        for event in list(self._attached.values()):
            event.set()

    def attach(self, job_id: int) -> None:
        """Block while a job of this node is open, so that whoever watches the broker sees it running."""
        ended = self._attached.setdefault(job_id, threading.Event())
        if not self.watches(job_id):
            self.wake()
        try:
            while (
                not self._stopping.is_set() and self._is_open(job_id) and not ended.wait(_ATTACH_LOOK_SECONDS)
            ):
                pass
        finally:
            self._attached.pop(job_id, None)
            connection.close()

    def watches(self, job_id: int) -> bool:
        """Whether it knows that the job is open."""
        return job_id in self._watched

    def _open(self) -> None:
        """A new session of the node."""
        self._node = inventory.record(self._reading)
        self._session.open()
        self._opened, self._adopted = True, False

    def _adopt_all(self) -> None:
        """Every open job, of an earlier agent or of this one: what ended is told again, what was claimed is launched."""
        self._unsaved.clear()
        self._to_launch.clear()
        self._watched.clear()
        self._unmirrored.clear()
        for charge in watching.open_jobs(self._node):
            self._adopt(charge)
        request_tick()
        self._adopted = True
        measuring.warm_up()

    def _looks_anew(self) -> None:
        """In a moment, at all that is there: what was committed and not answered is found as after a restart."""
        self._adopted = False
        self._stopping.wait(LOOK_EVERY_SECONDS)

    def _adopt(self, charge: Charge) -> None:
        job = charge.job
        if job.state == JobState.PLACED:
            return
        self._watched[job.pk] = charge
        was_launched = job.state in (JobState.RUNNING, JobState.ENDING)
        adoption = self._launcher.adopt(
            job_id=job.pk, control_dir=paths_of(job).control, was_launched=was_launched
        )
        log.info("job %s of an earlier agent is %s", job.pk, adoption)
        if adoption is Adoption.ABSENT:
            self._to_launch.append(charge)
            return
        if job.state == JobState.ENDING:
            self._launcher.cancel(job_id=job.pk)
        if job.state == JobState.CLAIMED:
            job.state, job.started_at = JobState.RUNNING, timezone.now()
            claimed = Job.objects.filter(pk=job.pk, state=JobState.CLAIMED)
            claimed.update(state=job.state, started_at=job.started_at)
        if job.pk not in self._attached:
            self._send(charge)

    def _launch(self) -> None:
        while batch := self._to_launch[:BATCH]:
            launched = watching.launch_all(claimed=batch, launcher=self._launcher, now=timezone.now())
            del self._to_launch[: len(batch)]
            self._forget(each.job.pk for each in batch if each.job.pk not in launched)

    def _take(self, claimed: Sequence[Charge]) -> None:
        self._to_launch += claimed
        self._watched.update((each.job.pk, each) for each in claimed)

    def _end(self) -> bool:
        """Whether anything ended. An end that the database refuses is tried again after those that come next."""
        records, self._unsaved = self._unsaved, []
        for first in range(0, len(records), BATCH):
            batch = records[first : first + BATCH]
            refused = watching.end_all(records=batch, known=self._watched, now=timezone.now())
            self._unsaved += [record for record in batch if record.job_id in refused]
            self._forget(record.job_id for record in batch if record.job_id not in refused)
        return len(records) > len(self._unsaved)

    def _forget(self, ended: Iterable[int]) -> None:
        for job_id in ended:
            self._watched.pop(job_id, None)
            if event := self._attached.get(job_id):
                event.set()

    def _refill(self) -> None:
        """Tick at once for what has just been freed, and claim it: no message, and no other process, is waited for.

        The request that the ending made stays for the ticker, which serves other pools, and this one if the agent dies.
        """
        dispatch.tick(
            now=timezone.now(),
            send=self._announce,
            pool=self._node.pool,
            most=dispatch.FEW_LOOKED_AT,
            claiming_node_id=self._node.pk,
        )

    def _announce(self, charge: Charge) -> None:
        """What was placed here is launched here."""
        if charge.job.node_id != self._node.pk:
            self._send(charge)
            return
        self._take([charge])
        if not self._node.is_simulated:
            self._unmirrored.append(charge)

    def _mirror(self) -> None:
        """For those who watch the broker; what ends at once is not worth the messages, which would delay what is next."""
        long_ago = timezone.now() - MIRRORED_AFTER
        here = [charge for charge in self._unmirrored if self.watches(charge.job.pk)]
        self._unmirrored = [charge for charge in here if charge.job.placed_at > long_ago]
        for charge in here:
            if charge.job.placed_at <= long_ago:
                self._send(charge)

    def _inspect(self) -> None:
        self._inspect_at = time.monotonic() + INSPECT_EVERY_SECONDS
        if not self._watched:
            return
        now = timezone.now()
        watching.cancel_requested(node=self._node, launcher=self._launcher, now=now)
        if any(run.kind == RunKind.EVALUATE for charge in self._watched.values() for run in charge.runs):
            self._settle(now)

    def _settle(self, now: datetime) -> None:
        running = Job.objects.filter(node=self._node, state=JobState.RUNNING, launches__run__kind="evaluate")
        for job in running.with_their_place().distinct():
            watching.settle(job=job, now=now)

    def _keep_session(self, now: datetime) -> None:
        standing = self._session.keep()
        if standing is Standing.SUPERSEDED:
            self.stop()
        elif standing is Standing.LOST:
            self._to_launch.clear()  # another node has them
            self._opened = False
        elif self._session.has_to_prove and losing.prove(node=self._node, launcher=self._launcher, now=now):
            self._session.proven()
            request_tick()

    def _is_open(self, job_id: int) -> bool:
        return (
            self.watches(job_id)
            or Job.objects.filter(
                pk=job_id, node__name=self._reading.name, state__in=OPEN_JOB_STATES
            ).exists()
        )
