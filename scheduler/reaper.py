"""The reaper: takes the runs of a node that was away for so long that it has stopped them itself.

Only what an experiment says may start anew elsewhere (`on_node_lost: requeue`), and only from nodes that promised to
stop such jobs before their session runs out. It goes by the database's clock. After a time in which it could not look
(the database or labmgr was away, a clock was set), nothing is taken for one whole period: until then every node that
lives has renewed its session.
"""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from experiments.models import Experiment
from experiments.states import OPEN_JOB_STATES
from scheduler import losing
from scheduler.launchers.job_tree import boot_clock
from scheduler.models import ControlPlane, Job, Node

log = logging.getLogger(__name__)

CLOCK_TOLERANCE_SECONDS = 1.0  # of the margin that nodes keep


def period() -> timedelta:
    return timedelta(seconds=settings.NODE_LOST_AFTER_SECONDS)


def look_every() -> float:
    return min(3.0, settings.NODE_LOST_AFTER_SECONDS / 8)


def longest_gap() -> timedelta:
    """Between two looks; after a longer one, nodes may not have had the time to renew."""
    return timedelta(seconds=min(15.0, settings.NODE_LOST_AFTER_SECONDS / 2))


@dataclass(frozen=True)
class _Seen:
    """The two clocks at the last look."""

    database: datetime
    boot: float


class Reaper:
    """One a process that ticks; more than one do no harm."""

    def __init__(self) -> None:
        self._due = 0.0
        self._seen: _Seen | None = None

    def look(self) -> int:
        """Where it is time, take what may be taken; how many jobs were."""
        if time.monotonic() < self._due:
            return 0
        self._due = time.monotonic() + look_every()
        row = _control_plane()
        now: datetime = row.clock  # type: ignore[attr-defined]
        waits_until = _waits_until(row, now, clock_was_set=self._clock_was_set(now))
        ControlPlane.objects.filter(pk=1).update(reaper_passed_at=now, reaper_waits_until=waits_until)
        return reap(now=now) if now >= waits_until else 0

    def _clock_was_set(self, now: datetime) -> bool:
        before, self._seen = self._seen, _Seen(now, boot_clock())
        if before is None:
            return False
        passed = self._seen.boot - before.boot
        return abs((now - before.database).total_seconds() - passed) > CLOCK_TOLERANCE_SECONDS


def reap(*, now: datetime) -> int:
    """`now` is the database's. How many jobs were taken."""
    over = Node.objects.filter(_ran_out(now), session_stops_jobs=True)
    for name in over.filter(session_lost_at__isnull=True).values_list("name", flat=True):
        if over.filter(name=name, session_lost_at__isnull=True).update(session_lost_at=now):
            log.warning("node %s is lost: its session ran out", name)
    return sum(
        _take_from(pk, now) for pk in over.filter(session_lost_at__isnull=False).values_list("pk", flat=True)
    )


def _ran_out(now: datetime) -> Q:
    """By the clock as it was read and as it is: one that was set back between would damn whoever renewed since."""
    return Q(session_expires_at__lt=now) & Q(session_expires_at__lt=Now())


def _control_plane() -> ControlPlane:
    ControlPlane.objects.get_or_create(pk=1)
    return ControlPlane.objects.annotate(clock=Now()).get(pk=1)


def _waits_until(row: ControlPlane, now: datetime, *, clock_was_set: bool) -> datetime:
    passed = row.reaper_passed_at
    if passed is None or clock_was_set or not passed <= now <= passed + longest_gap():
        log.info("the reaper could not look for a while; it takes nothing for %s", period())
        return now + period()
    return min(row.reaper_waits_until or now, now + period())


@transaction.atomic
def _take_from(node_id: int, now: datetime) -> int:
    """Under the node's row, so that an agent that comes back is either before or after it.

    Jobs and their experiments are locked before it, as where jobs end (see scheduler.ending): an agent that comes
    back may be ending the same ones. What is placed there meanwhile is taken at the next look.
    """
    takeable = _locked_jobs(node_id)
    still = Node.objects.select_for_update(no_key=True).filter(_ran_out(now), pk=node_id)
    node = still.filter(session_lost_at__isnull=False).first()
    if node is None:
        return 0
    told = f"Its node {node.name} was last heard of at {node.session_renewed_at:%Y-%m-%d %H:%M:%S} UTC, and is lost."
    return sum(losing.take(job=job, message=told, now=now) for job in takeable)


def _locked_jobs(node_id: int) -> list[Job]:
    """Those that may be taken. None of the locks hinders the events of their runs, which name jobs by their keys."""
    jobs = Job.objects.filter(node=node_id, state__in=OPEN_JOB_STATES).select_related("experiment", "node")
    takeable = jobs.filter(experiment__on_node_lost=Experiment.OnNodeLost.REQUEUE).order_by("pk")
    locked = list(takeable.select_for_update(of=("self",), no_key=True))
    experiments = Experiment.objects.filter(pk__in={job.experiment_id for job in locked})
    list(experiments.order_by("pk").select_for_update(no_key=True).values_list("pk"))
    return locked
