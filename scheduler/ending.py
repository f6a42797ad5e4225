"""The end of jobs: their rows, their runs, and everything that they held, a batch in one transaction.

What it locks, it locks in the order of scheduler.applying: experiments, nodes, devices, runs; and before all of
these the jobs themselves, which nobody has while they are being placed.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import F

from experiments import lifecycle
from experiments.models import Experiment
from experiments.retries import Circumstances
from experiments.specs import Outcome
from experiments.states import OPEN_JOB_STATES, REASONS, Again, FinishReason, JobState
from scheduler import auto_windows, queue
from scheduler.dispatch import request_tick
from scheduler.launchers.base import ExitRecord
from scheduler.models import Device, Job, Launch, Lease, Node

_SUCCEEDED = Outcome(succeeded=True)
_OF_RECORD = (
    "state",
    "ending",
    "exit_code",
    "exit_signal",
    "message",
    "started_at",
    "ended_at",
    "peak_rss_mib",
    "cpu_seconds",
)


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """A job whose whole tree is gone, with the outcome of each run; `record` is None if it was never launched."""

    job: Job
    record: ExitRecord | None
    outcomes: Mapping[int, Outcome]
    log_tail: str = ""


@transaction.atomic(savepoint=False)
def end_jobs(*, ended: Sequence[EndedJob], now: datetime) -> set[int]:
    """End jobs; returns the ids of those that had not ended already.

    Devices with processes that could not be killed are quarantined rather than given to the next job.
    """
    still_open = Job.objects.filter(pk__in=[end.job.pk for end in ended], state__in=OPEN_JOB_STATES)
    ids = set(still_open.order_by("pk").select_for_update().values_list("pk", flat=True))
    ending = [end for end in ended if end.job.pk in ids]
    if not ending:
        return ids
    _write_rows(ending, now)
    _release(ending, now)
    _finish_runs(ending, now)
    if too_large := {end.job.experiment_id for end in ending if _ran_out_of_memory(end)}:
        auto_windows.halve(experiment_ids=too_large, now=now)
    Launch.objects.filter(job__in=ids).update(is_open=False)
    request_tick()
    return ids


def end_job(
    *, job: Job, record: ExitRecord | None, outcomes: Mapping[int, Outcome], log_tail: str, now: datetime
) -> bool:
    """End one job; False if it had ended already."""
    ended = EndedJob(job=job, record=record, outcomes=outcomes, log_tail=log_tail)
    return job.pk in end_jobs(ended=[ended], now=now)


@transaction.atomic
def finish_run(*, job: Job, run_id: int, outcome: Outcome, log_tail: str, now: datetime) -> bool:
    """End one run of a job that may go on with others; a stale job changes nothing."""
    Launch.objects.filter(job=job, run=run_id).update(is_open=False)
    return lifecycle.finish(
        run_id=run_id,
        job_id=job.pk,
        outcome=replace(outcome, message=_storable(outcome.message)),
        log_tail="" if outcome.succeeded else _storable(log_tail),
        around=_circumstances(job, run_id, outcome),
        now=now,
    )


def _circumstances(job: Job, run_id: int, outcome: Outcome) -> Circumstances:
    """Only what the reason's policy asks for is looked up."""
    again = Again.NEVER if outcome.succeeded else REASONS[FinishReason(outcome.reason)].again
    node = job.node.name
    return Circumstances(
        node_name=node,
        has_other_node=again is Again.ELSEWHERE and bool(queue.nodes_that_could_hold(run_id) - {node}),
        shared_engine=again is Again.APART and Launch.objects.filter(job=job).count() > 1,
        was_active=outcome.was_active,
    )


def _finish_runs(ending: Iterable[EndedJob], now: datetime) -> None:
    """Those that succeeded are one batch; every other ending may have its own policy."""
    outcomes = [(end, run_id, outcome) for end in ending for run_id, outcome in end.outcomes.items()]
    succeeded = {run_id: end.job.pk for end, run_id, outcome in outcomes if outcome == _SUCCEEDED}
    if succeeded:
        lifecycle.succeed(job_of=succeeded, now=now)
    for end, run_id, outcome in outcomes:
        if run_id not in succeeded:
            finish_run(job=end.job, run_id=run_id, outcome=outcome, log_tail=end.log_tail, now=now)


def _ran_out_of_memory(end: EndedJob) -> bool:
    return any(outcome.reason == FinishReason.OUT_OF_MEMORY for outcome in end.outcomes.values())


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL in a text, and a log may hold one."""
    return text.replace("\0", "\ufffd")


def _write_rows(ending: Iterable[EndedJob], now: datetime) -> None:
    launched = [_as_recorded(end.job, end.record) for end in ending if end.record]
    others = [end.job.pk for end in ending if not end.record]
    if others:
        Job.objects.filter(pk__in=others).update(state=JobState.ENDED, ending="NOT_LAUNCHED", ended_at=now)
    Job.objects.bulk_create(  # an update of rows that are locked, each with what is its own
        launched, update_conflicts=True, unique_fields=["id"], update_fields=_OF_RECORD
    )


def _as_recorded(job: Job, record: ExitRecord) -> Job:
    """With times as the supervisor has them, which is before anybody had looked. The caller's row stays as it is."""
    ended = copy.copy(job)
    ended.state, ended.ending, ended.message = JobState.ENDED, record.ending, record.message
    ended.exit_code, ended.exit_signal = record.exit_code, record.signal
    ended.started_at = datetime.fromtimestamp(record.started_at, UTC)
    ended.ended_at = datetime.fromtimestamp(record.ended_at, UTC)
    ended.peak_rss_mib, ended.cpu_seconds = record.peak_rss_mib, record.cpu_seconds
    return ended


def release(*, job: Job, record: ExitRecord | None, now: datetime) -> None:
    """Give back what a job held of its node; only when its whole tree is gone, and once, in a transaction."""
    _release_nodes([EndedJob(job=job, record=record, outcomes={})], now)


def _release(ending: Sequence[EndedJob], now: datetime) -> None:
    for experiment_id, jobs in sorted(Counter(end.job.experiment_id for end in ending).items()):
        Experiment.objects.filter(pk=experiment_id).update(open_jobs=F("open_jobs") - jobs)
    _release_nodes(ending, now)


def _release_nodes(ending: Sequence[EndedJob], now: datetime) -> None:
    for node_id in sorted({end.job.node_id for end in ending}):
        jobs_here = [end.job for end in ending if end.job.node_id == node_id]
        Node.objects.filter(pk=node_id).update(
            allocated_host_memory_mib=F("allocated_host_memory_mib")
            - sum(job.host_memory_mib for job in jobs_here),
            allocated_cpu_threads=F("allocated_cpu_threads") - sum(job.cpu_threads for job in jobs_here),
        )
    _release_devices(ending, now)


def _release_devices(ending: Sequence[EndedJob], now: datetime) -> None:
    leases = Lease.objects.filter(job__in=[end.job.pk for end in ending], released_at__isnull=True)
    held: Counter[int] = Counter()
    locked = leases.order_by(
        "device__pk"
    ).select_for_update()  # the devices, too, which the last column joins
    for device_id, memory_mib, _ in locked.values_list("device_id", "memory_mib", "device__allocated_mib"):
        held[device_id] += memory_mib
    alike: dict[int, list[int]] = defaultdict(list)
    for device_id, memory_mib in held.items():
        alike[memory_mib].append(device_id)
    for memory_mib, device_ids in alike.items():
        Device.objects.filter(pk__in=device_ids).update(allocated_mib=F("allocated_mib") - memory_mib)
    for end in ending:
        if end.record and end.record.unkillable_pids:
            _quarantine(end.job, end.record.unkillable_pids)
    leases.update(released_at=now)


def _quarantine(job: Job, pids: tuple[int, ...]) -> None:
    told = f"Job {job.pk} left processes that could not be killed: {', '.join(map(str, pids))}."
    held = Device.objects.filter(leases__job=job, leases__released_at__isnull=True)
    held.exclude(state=Device.State.GONE).update(state=Device.State.QUARANTINED, state_message=told)
