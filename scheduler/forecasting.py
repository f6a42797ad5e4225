"""The lab's queue as something that can be played forward: what is under way, what waits, how long each takes.

Reservations go by limits, forecasts by estimates. A run that has none takes for ever, so that nothing is said of what comes
after it, or as long as its limit, so that what is said is the latest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from experiments.estimation import SECONDS
from experiments.models import Estimate, Experiment, Run
from experiments.models.runs import RunQuerySet
from experiments.states import OPEN_JOB_STATES, RunState
from scheduler import grouping, queue
from scheduler.allocation import FreeNode, Running
from scheduler.grouping import EligibleRun
from scheduler.models import Job
from scheduler.playing import Key, Play, Turn, UnderWay, play

MOST_EXPECTED = 100  # of the queue, from its head, are told when they are expected to start


@dataclass(frozen=True, kw_only=True)
class Expected:
    start_at: datetime
    is_latest: bool  # by limits, since a run before it has no estimate


@dataclass(frozen=True, kw_only=True)
class OpenJob:
    running: Running  # its end, by its limit, in seconds from now
    experiment_id: int
    run_ids: tuple[int, ...]
    passed_seconds: float
    limit_seconds: float


@dataclass(frozen=True, kw_only=True)
class Outset:
    """Where a forecast begins; read once, and played as often as it is asked."""

    runs: Sequence[EligibleRun]
    builds_on: Mapping[int, int]
    seconds: Mapping[int, float]  # estimated, by run
    nodes: Sequence[FreeNode]
    windows: Mapping[int, int]
    jobs: Sequence[OpenJob]

    def play(self, *, by_limits: bool, more: Sequence[Play] = ()) -> dict[Key, Turn]:
        """In seconds from now. With `by_limits`, a run without an estimate takes as long as its limit."""
        return play(
            queue=[*(self._waiting(run, by_limits) for run in self.runs), *more],
            nodes=self.nodes,
            under_way=[self._under_way(job, by_limits) for job in self.jobs],
            windows=self.windows,
        )

    def with_grown_windows(self) -> "Outset":
        """As if automatic windows had grown already to what devices there are: they hold nothing back."""
        automatic = Experiment.objects.filter(pk__in=self.windows, max_parallel_is_auto=True)
        grown = set(automatic.values_list("pk", flat=True))
        return replace(self, windows={pk: left for pk, left in self.windows.items() if pk not in grown})

    def _waiting(self, run: EligibleRun, by_limits: bool) -> Play:
        return Play(
            key=run.run_id,
            item=grouping.item_of([run]),
            seconds=self.seconds.get(run.run_id, run.limit_seconds if by_limits else math.inf),
            after=self.builds_on.get(run.run_id),
        )

    def _under_way(self, job: OpenJob, by_limits: bool) -> UnderWay:
        unknown = job.limit_seconds if by_limits else math.inf
        expected = sum(self.seconds.get(run_id, unknown) for run_id in job.run_ids)
        return UnderWay(
            running=job.running,
            experiment_id=job.experiment_id,
            seconds_left=max(0.0, expected - job.passed_seconds),
            keys=job.run_ids,
        )


def read(*, now: datetime, runs: RunQuerySet | None = None, most: int | None = None) -> Outset:
    """With the first so many of these runs; of all that is queued, if none are given. What is paused is left out."""
    asked = (Run.objects.queued() if runs is None else runs).unpaused()
    dependent = asked.filter(depends_on__isnull=False).exclude(depends_on__state=RunState.SUCCEEDED)
    estimates = Estimate.objects.filter(metric=SECONDS, value__isnull=False, run__finished_at=None)
    return Outset(
        runs=queue.expected_runs(asked, now=now)[:most],
        builds_on={pk: before for pk, before in dependent.values_list("pk", "depends_on") if before},
        seconds={pk: value for pk, value in estimates.values_list("run_id", "value") if value is not None},
        nodes=queue.free_nodes(),
        windows=queue.open_windows(),
        jobs=_open_jobs(now),
    )


def expected_starts(*, now: datetime) -> dict[int, Expected]:
    """When the first of the queue are expected to start, if nothing is put ahead of them."""
    outset = read(now=now, most=MOST_EXPECTED)
    if not outset.runs:
        return {}
    known, latest = (outset.play(by_limits=by_limits) for by_limits in (False, True))
    return {
        run.run_id: Expected(
            start_at=now + timedelta(seconds=(known.get(run.run_id) or latest[run.run_id]).start_at),
            is_latest=run.run_id not in known,
        )
        for run in outset.runs
        if run.run_id in latest
    }


def _open_jobs(now: datetime) -> list[OpenJob]:
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES).prefetch_related("launches").in_bulk()
    running = queue.running_by_job(now=now)
    return [_open_job(jobs[job_id], held, now) for job_id, held in running.items() if job_id in jobs]


def _open_job(job: Job, running: Running, now: datetime) -> OpenJob:
    return OpenJob(
        running=replace(running, ends_at=running.ends_at - now.timestamp()),
        experiment_id=job.experiment_id,
        run_ids=tuple(launch.run_id for launch in job.launches.all()),
        passed_seconds=(now - (job.started_at or now)).total_seconds(),
        limit_seconds=job.limit_seconds,
    )
