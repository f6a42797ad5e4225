"""What jobs have measured of their runs, gathered for a batch before anything of it is written.

Gathering reads files and may fail for one run or the other; keeping what was gathered belongs into the transaction that
ends the jobs, so that no run ends without what was measured of it.
"""

import contextlib
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from experiments import harvest
from experiments.conditions import software_of
from experiments.models import Observation, Run
from experiments.run_conditions import Place
from scheduler.models import Job
from scheduler.programs.base import PlacedJob, Verdict
from scheduler.programs.environment import ml_versions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gathered:
    """Observations that are not kept yet, and the runs that were looked at, whether anything was measured or not."""

    observations: Sequence[Observation] = ()
    run_ids: Collection[int] = ()

    def of(self, run_ids: Collection[int]) -> "Gathered":
        rows = [row for row in self.observations if row.run_id in run_ids]
        return Gathered(rows, [run_id for run_id in self.run_ids if run_id in run_ids])

    def keep(self, *, job_ids: Collection[int], now: datetime) -> None:
        harvest.keep(observations=self.observations, run_ids=self.run_ids, job_ids=job_ids, now=now)


def warm_up() -> None:
    """Read what does not change from job to job, which takes longer than all the rest: not at the end of the first one."""
    with contextlib.suppress(OSError):  # an environment that cannot be read is told of where it is needed
        ml_versions(Path(settings.ML_PYTHON))


def gather(
    *,
    jobs: Sequence[Job],
    placed: Sequence[PlacedJob],
    verdicts: Sequence[Mapping[int, Verdict]],
    runs: Mapping[int, Run],
    now: datetime,
) -> Gathered:
    """`runs` has those that the jobs carry, by their ids, each with its cell's model.

    A run that cannot be harvested is left out, and stays marked so.
    """
    told = [(run_id, verdict) for found in verdicts for run_id, verdict in found.items()]
    looked_at = [run_id for run_id, verdict in told if not verdict.measurements]
    measured = {run_id for run_id, verdict in told if verdict.measurements}
    places = _places(jobs, placed) if measured else {}
    observations: list[Observation] = []
    for job, found in zip(jobs, verdicts, strict=True):
        carried = [runs[run_id] for run_id in found if run_id in measured and run_id in runs]
        for run in (run for run in carried if run.fencing_token == job.pk):
            rows = _observed(run, job, found[run.pk], places[job.pk], now)
            if rows is not None:
                observations += rows
                looked_at.append(run.pk)
    return Gathered(observations, looked_at)


def _observed(run: Run, job: Job, verdict: Verdict, place: Place, now: datetime) -> list[Observation] | None:
    """None where it cannot be harvested."""
    measured = [each for each in verdict.measurements if math.isfinite(each.value)]
    try:
        return harvest.observe(run=run, job_id=job.pk, measurements=measured, place=place, now=now)
    except (ValueError, TypeError):
        log.exception("run %s of job %s could not be harvested", run.pk, job.pk)
        return None


def _places(jobs: Sequence[Job], placed: Sequence[PlacedJob]) -> dict[int, Place]:
    beside = _co_runners(jobs)
    software = software_of(ml_versions(Path(settings.ML_PYTHON)))
    return {
        job.pk: Place(
            device_kind=each.devices[0].model_name,
            device_memory_mib=each.devices[0].memory_mib,
            on_gpu=each.on_gpu,
            world_size=len(each.devices),
            cpu_threads=each.cpu_threads,
            co_runners=beside[job.pk],
            software=software,
        )
        for job, each in zip(jobs, placed, strict=True)
    }


def _co_runners(jobs: Sequence[Job]) -> dict[int, int]:
    """How many other jobs ran on its node when each started."""
    began = {job.pk: job.started_at or job.placed_at for job in jobs}
    there = Job.objects.filter(node__in={job.node_id for job in jobs}, started_at__lte=max(began.values()))
    there = there.exclude(ended_at__lte=min(began.values())).order_by()
    ran = list(there.values_list("pk", "node_id", "started_at", "ended_at"))
    return {job.pk: sum(_was_beside(job, began[job.pk], *other) for other in ran) for job in jobs}


def _was_beside(
    job: Job,
    began_at: datetime,
    pk: int,
    node_id: int,
    started_at: datetime | None,
    ended_at: datetime | None,
) -> bool:
    is_other = pk != job.pk and node_id == job.node_id
    had_started = started_at is not None and started_at <= began_at
    return is_other and had_started and not (ended_at and ended_at <= began_at)
