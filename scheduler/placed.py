"""A job with what it carries and holds: as rows, and as its program sees them.

Whoever places a job has read all of it, and hands it on; an agent keeps it for as long as the job runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from django.conf import settings

from experiments.models import Run
from experiments.states import RunKind
from scheduler.models import Device, Job, Launch, Lease
from scheduler.paths import JobPaths, job_paths
from scheduler.programs import PROGRAMS
from scheduler.programs.base import CarriedRun, GrantedDevice, PlacedJob, Program


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A job that somebody is in charge of. `runs` are those that it carried when this was read, with what they build on."""

    job: Job
    runs: tuple[Run, ...]
    devices: tuple[Device, ...]
    granted_mib: tuple[int, ...]  # of each device
    earlier: Mapping[
        int, tuple[Path, ...]
    ]  # by run: where earlier jobs may have left whole epochs, the newest first

    @cached_property
    def placed(self) -> PlacedJob:
        """As its program sees it."""
        return PlacedJob(
            job_id=self.job.pk,
            title=self.job.title,
            paths=paths_of(self.job),
            runs=tuple(_carried(run, self.earlier.get(run.pk, ())) for run in self.runs),
            devices=tuple(map(_granted, self.devices, self.granted_mib)),
            cpu_threads=self.job.cpu_threads,
        )

    def carrying(self, runs: Mapping[int, Run]) -> PlacedJob:
        """With those of its runs that it carries still, as they are now."""
        carried = tuple(
            replace(run, cancelled=runs[run.run_id].cancel_requested_at is not None)
            for run in self.placed.runs
            if run.run_id in runs
        )
        return replace(self.placed, runs=carried)


def paths_of(job: Job) -> JobPaths:
    return job_paths(
        run_root=settings.RUN_ROOT,
        control_root=settings.CONTROL_ROOT,
        experiment=job.experiment.name,
        title=job.title,
        job_id=job.pk,
        placed_at=job.placed_at,
    )


def charge(job: Job) -> Charge:
    return charges([job])[0]


def charges(jobs: Sequence[Job]) -> list[Charge]:
    """Jobs with those of their runs that have not ended; read at once, however many they are."""
    if not jobs:
        return []
    runs = _carried_by(jobs)
    earlier = earlier_directories(run for carried in runs.values() for run in carried)
    leases: dict[int, list[Lease]] = {}
    for lease in Lease.objects.filter(job__in=jobs).select_related("device").order_by("device__index"):
        leases.setdefault(lease.job_id, []).append(lease)
    return [
        Charge(
            job=job,
            runs=tuple(runs.get(job.pk, ())),
            devices=tuple(lease.device for lease in leases.get(job.pk, ())),
            granted_mib=tuple(lease.memory_mib for lease in leases.get(job.pk, ())),
            earlier=earlier,
        )
        for job in jobs
    ]


def earlier_directories(runs: Iterable[Run]) -> dict[int, tuple[Path, ...]]:
    """Of those that are fine-tunes, where earlier jobs may have left whole epochs, the newest first."""
    trained = [run.pk for run in runs if run.kind == RunKind.FINETUNE]
    if not trained:
        return {}
    before = Launch.objects.filter(run__in=trained, is_open=False)
    before = before.exclude(job__directory="").exclude(job__ending="NOT_LAUNCHED")
    found: dict[int, tuple[Path, ...]] = {}
    for run_id, directory in before.order_by("-job_id").values_list("run_id", "job__directory"):
        found[run_id] = (*found.get(run_id, ()), Path(directory))
    return found


def program_of(job: PlacedJob) -> Program:
    return PROGRAMS[RunKind(job.runs[0].spec.kind)]


def _carried_by(jobs: Sequence[Job]) -> dict[int, list[Run]]:
    launches = Launch.objects.filter(job__in=jobs, is_open=True).select_related("run__depends_on")
    carried: dict[int, list[Run]] = {}
    for launch in launches.order_by("run_id"):
        carried.setdefault(launch.job_id, []).append(launch.run)
    return carried


def _granted(device: Device, memory_mib: int) -> GrantedDevice:
    return GrantedDevice(
        kind=device.kind, uuid=device.uuid, model_name=device.model_name, memory_mib=memory_mib
    )


def _carried(run: Run, earlier_directories: tuple[Path, ...]) -> CarriedRun:
    before = run.depends_on
    return CarriedRun(
        run_id=run.pk,
        name=run.name,
        spec=run.parsed_spec,
        cancelled=run.cancel_requested_at is not None,
        builds_on_spec=before.parsed_spec if before else None,
        builds_on_directory=Path(before.directory) if before else None,
        earlier_directories=earlier_directories,
    )
