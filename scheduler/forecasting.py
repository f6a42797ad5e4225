"""The lab's queue as something that can be played forward: what is under way, what waits, how long each takes.

Reservations go by limits, forecasts by estimates. A run that has none takes for ever, so that nothing is said of what comes
after it, or as long as its limit, so that what is said is the latest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from experiments.estimation import SECONDS
from experiments.models import Estimate, Run
from experiments.states import OPEN_JOB_STATES, RunKind, RunState
from scheduler import queue
from scheduler.allocation import QueueItem, Running
from scheduler.grouping import EligibleRun
from scheduler.models import Job
from scheduler.playing import Play, UnderWay, play

MOST_EXPECTED = 100  # of the queue, from its head, are told when they are expected to start


@dataclass(frozen=True, kw_only=True)
class Expected:
    start_at: datetime
    is_latest: bool  # by limits, since a run before it has no estimate


def expected_starts(*, now: datetime) -> dict[int, Expected]:
    """When the first of the queue are expected to start, if nothing is put ahead of them."""
    by_limits = _starts(now=now, by_limits=True)
    by_estimates = _starts(now=now, by_limits=False) if by_limits else {}
    latest = {run_id: Expected(start_at=at, is_latest=True) for run_id, at in by_limits.items()}
    return latest | {run_id: Expected(start_at=at, is_latest=False) for run_id, at in by_estimates.items()}


def waiting(*, by_limits: bool, most: int | None = None) -> list[Play]:
    """What is queued, in its order; what builds on another run after that one."""
    seconds = known_seconds()
    builds_on = dict(
        Run.objects.queued().exclude(depends_on__state=RunState.SUCCEEDED).values_list("pk", "depends_on")
    )
    runs = sorted(queue.queued_runs(), key=lambda run: (run.turn, run.run_id))[:most]
    return [
        Play(
            key=run.run_id,
            item=item_of(run),
            seconds=seconds.get(run.run_id, run.limit_seconds if by_limits else math.inf),
            after=builds_on.get(run.run_id),
        )
        for run in runs
    ]


def under_way(*, now: datetime, by_limits: bool) -> list[UnderWay]:
    """What runs, and how long it still does: never less than nothing."""
    seconds = known_seconds()
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES).prefetch_related("launches").in_bulk()
    return [
        _under_way(jobs[job_id], running, seconds, now, by_limits)
        for job_id, running in queue.running_by_job(now=now).items()
        if job_id in jobs
    ]


def item_of(run: EligibleRun) -> QueueItem:
    return QueueItem(
        run_ids=(run.run_id,),
        experiment_id=run.experiment_id,
        order=(run.turn, run.run_id),
        devices=run.devices,
        device_memory_mib=run.device_memory_mib,
        host_memory_mib=run.host_memory_mib,
        cpu_threads=run.cpu_threads,
        simulated=run.kind is RunKind.SIMULATED,
        pool=run.pool,
        limit_seconds=run.limit_seconds,
        avoided_node=run.avoided_node,
    )


def known_seconds() -> dict[int, float]:
    """What runs that have not ended are estimated to take."""
    known = Estimate.objects.filter(metric=SECONDS, value__isnull=False, run__finished_at=None)
    return {run_id: value for run_id, value in known.values_list("run_id", "value") if value is not None}


def _starts(*, now: datetime, by_limits: bool) -> dict[int, datetime]:
    plays = waiting(by_limits=by_limits, most=MOST_EXPECTED)
    if not plays:
        return {}
    turns = play(
        queue=plays,
        nodes=queue.free_nodes(),
        under_way=under_way(now=now, by_limits=by_limits),
        windows=queue.open_windows(),
    )
    return {int(str(key)): now + timedelta(seconds=turn.start_at) for key, turn in turns.items()}


def _under_way(
    job: Job, running: Running, seconds: Mapping[int, float], now: datetime, by_limits: bool
) -> UnderWay:
    runs = [launch.run_id for launch in job.launches.all()]
    passed = (now - (job.started_at or now)).total_seconds()
    expected = sum(seconds.get(run_id, job.limit_seconds if by_limits else math.inf) for run_id in runs)
    left = max(0.0, expected - passed)
    return UnderWay(
        running=Running(
            node=running.node,
            device_mib=running.device_mib,
            host_memory_mib=running.host_memory_mib,
            cpu_threads=running.cpu_threads,
            ends_at=max(0.0, running.ends_at - now.timestamp()),
        ),
        experiment_id=job.experiment_id,
        seconds_left=left,
        keys=tuple(runs),
    )
