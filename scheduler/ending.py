"""The end of a job: its row, its runs, and everything that it held, in one transaction."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.db.models import F

from experiments import lifecycle
from experiments.models import Experiment
from experiments.specs import Outcome
from experiments.states import OPEN_JOB_STATES, JobState
from scheduler.dispatch import request_tick
from scheduler.launchers.base import ExitRecord
from scheduler.models import Device, Job, Launch, Lease, Node


@transaction.atomic
def end_job(
    *, job: Job, record: ExitRecord | None, outcomes: Mapping[int, Outcome], log_tail: str, now: datetime
) -> bool:
    """End a job whose whole tree is gone, with the outcome of each run; False if it had ended already.

    `record` is None for a job that was never launched. Devices with processes that could not be killed are
    quarantined rather than given to the next job.
    """
    ended = Job.objects.filter(pk=job.pk, state__in=OPEN_JOB_STATES).update(
        state=JobState.ENDED, ended_at=now, **_of_record(record)
    )
    if not ended:
        return False
    for run_id, outcome in outcomes.items():
        finish_run(job=job, run_id=run_id, outcome=outcome, log_tail=log_tail, now=now)
    Launch.objects.filter(job=job).update(is_open=False)
    Experiment.objects.filter(pk=job.experiment_id).update(open_jobs=F("open_jobs") - 1)
    release(job=job, record=record, now=now)
    request_tick()
    return True


@transaction.atomic
def finish_run(*, job: Job, run_id: int, outcome: Outcome, log_tail: str, now: datetime) -> bool:
    """End one run of a job that may go on with others; a stale job changes nothing."""
    Launch.objects.filter(job=job, run=run_id).update(is_open=False)
    return lifecycle.finish(
        run_id=run_id,
        job_id=job.pk,
        outcome=replace(outcome, message=_storable(outcome.message)),
        log_tail="" if outcome.succeeded else _storable(log_tail),
        node_name=job.node.name,
        now=now,
    )


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL in a text, and a log may hold one."""
    return text.replace("\0", "\ufffd")


def _of_record(record: ExitRecord | None) -> dict[str, object]:
    if record is None:
        return {"ending": "NOT_LAUNCHED"}
    return {
        "ending": record.ending,
        "exit_code": record.exit_code,
        "exit_signal": record.signal,
        "message": record.message,
        "peak_rss_mib": record.peak_rss_mib,
        "cpu_seconds": record.cpu_seconds,
    }


def release(*, job: Job, record: ExitRecord | None, now: datetime) -> None:
    """Give back what a job held of its node; only when its whole tree is gone, and once, in a transaction."""
    for lease in Lease.objects.filter(job=job, released_at__isnull=True):
        Device.objects.filter(pk=lease.device_id).update(allocated_mib=F("allocated_mib") - lease.memory_mib)
    if record and record.unkillable_pids:
        _quarantine(job, record.unkillable_pids)
    Lease.objects.filter(job=job, released_at__isnull=True).update(released_at=now)
    Node.objects.filter(pk=job.node_id).update(
        allocated_host_memory_mib=F("allocated_host_memory_mib") - job.host_memory_mib,
        allocated_cpu_threads=F("allocated_cpu_threads") - job.cpu_threads,
    )


def _quarantine(job: Job, pids: tuple[int, ...]) -> None:
    told = f"Job {job.pk} left processes that could not be killed: {', '.join(map(str, pids))}."
    held = Device.objects.filter(leases__job=job, leases__released_at__isnull=True)
    held.exclude(state=Device.State.GONE).update(state=Device.State.QUARANTINED, state_message=told)
