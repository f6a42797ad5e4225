"""The jobs of a node that is lost: their runs are taken at once, their devices when the node has proven them gone.

What lives of such a job may go on writing to its own directory; its results are refused, since its runs have another
fencing token. So nothing is waited for, except that nobody is given its devices.
"""

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import F

from experiments.models import Experiment, Run
from experiments.specs import Outcome
from experiments.states import OPEN_JOB_STATES, REASONS, FinishReason, JobState
from scheduler import ending
from scheduler.dispatch import request_tick
from scheduler.launchers import records
from scheduler.launchers.base import Adoption, ExitRecord, Launcher, LaunchError
from scheduler.launchers.records import RecordError
from scheduler.models import Device, Job, Launch, Lease, Node
from scheduler.placed import paths_of

log = logging.getLogger(__name__)

ENDING = "NODE_LOST"  # of a job whose own ending nobody saw


@transaction.atomic
def take(*, job: Job, message: str, now: datetime) -> bool:
    """End a job of a lost node, so that its runs start elsewhere; False if it had ended already."""
    ended = Job.objects.filter(pk=job.pk, state__in=OPEN_JOB_STATES).update(
        state=JobState.ENDED, ended_at=now, ending=ENDING, message=message
    )
    if not ended:
        return False
    Experiment.objects.filter(pk=job.experiment_id).update(open_jobs=F("open_jobs") - 1)  # locked before runs
    for run in Run.objects.filter(launches__job=job, launches__is_open=True):
        ending.finish_run(job=job, run_id=run.pk, outcome=_outcome(run, message), log_tail="", now=now)
    Launch.objects.filter(job=job).update(is_open=False)
    request_tick()
    return True


def prove(*, node: Node, launcher: Launcher, now: datetime) -> bool:
    """End what lives of the jobs that were taken from this node; True once nothing does. May be repeated."""
    taken = Job.objects.filter(node=node, state=JobState.ENDED, leases__released_at__isnull=True)
    left = list(taken.with_their_place().distinct())
    lives = [job for job in left if not _is_gone(job, launcher, now)]  # all are asked to end at once
    return not lives


def _outcome(run: Run, message: str) -> Outcome:
    if run.cancel_requested_at:
        cancelled = FinishReason.CANCELLED_BY_USER
        return Outcome(succeeded=False, reason=cancelled, message=REASONS[cancelled].sentence)
    return Outcome(succeeded=False, reason=FinishReason.NODE_LOST, message=message)


def _is_gone(job: Job, launcher: Launcher, now: datetime) -> bool:
    control = paths_of(job).control
    try:
        adoption = launcher.adopt(job_id=job.pk, control_dir=control)
        if adoption is Adoption.RUNNING:
            log.info("job %s was taken while this node was lost, and lives: it is ended", job.pk)
            launcher.cancel(job_id=job.pk)
            return False
        _give_back(job, records.read_exit(control), now)
    except (LaunchError, RecordError, OSError) as error:
        _quarantine(job, f"It is not known whether job {job.pk} lives: {error}", now)
    return True


@transaction.atomic
def _give_back(job: Job, record: ExitRecord | None, now: datetime) -> None:
    """Once, also where two agents of the node are at it."""
    if Lease.objects.select_for_update().filter(job=job, released_at__isnull=True).exists():
        ending.release(job=job, record=record, now=now)


@transaction.atomic
def _quarantine(job: Job, told: str, now: datetime) -> None:
    held = Device.objects.filter(leases__job=job, leases__released_at__isnull=True)
    held.exclude(state=Device.State.GONE).update(state=Device.State.QUARANTINED, state_message=told)
    _give_back(job, None, now)
