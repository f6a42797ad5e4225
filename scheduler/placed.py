"""A job's rows as its program sees them."""

from collections.abc import Sequence
from pathlib import Path

from experiments.models import Run
from experiments.states import RunKind
from scheduler.dispatch import paths_of
from scheduler.models import Job, Launch, Lease
from scheduler.programs import PROGRAMS
from scheduler.programs.base import CarriedRun, GrantedDevice, PlacedJob, Program


def placed_job(job: Job) -> PlacedJob:
    """The job with those of its runs that have not ended."""
    return placed_jobs([job])[0]


def placed_jobs(jobs: Sequence[Job]) -> list[PlacedJob]:
    """Read at once, however many they are."""
    carried, granted = _carried_by(jobs), _granted_to(jobs)
    return [
        PlacedJob(
            job_id=job.pk,
            title=job.title,
            paths=paths_of(job),
            runs=tuple(carried.get(job.pk, ())),
            devices=tuple(granted.get(job.pk, ())),
            cpu_threads=job.cpu_threads,
        )
        for job in jobs
    ]


def program_of(job: PlacedJob) -> Program:
    return PROGRAMS[RunKind(job.runs[0].spec.kind)]


def _carried_by(jobs: Sequence[Job]) -> dict[int, list[CarriedRun]]:
    launches = Launch.objects.filter(job__in=jobs, is_open=True).select_related("run__depends_on")
    carried: dict[int, list[CarriedRun]] = {}
    found = list(launches.order_by("run_id"))
    trains = any(launch.run.kind == RunKind.FINETUNE for launch in found)
    earlier = _earlier_directories(jobs) if trains else {}
    for launch in found:
        run = _carried(launch.run, earlier.get(launch.run_id, ()))
        carried.setdefault(launch.job_id, []).append(run)
    return carried


def _earlier_directories(jobs: Sequence[Job]) -> dict[int, tuple[Path, ...]]:
    """Where earlier jobs of the fine-tunes that these carry may have left whole epochs."""
    carried = Launch.objects.filter(job__in=jobs, is_open=True, run__kind=RunKind.FINETUNE)
    before = Launch.objects.filter(run__in=carried.values("run"), is_open=False).exclude(job__directory="")
    found: dict[int, tuple[Path, ...]] = {}
    for run_id, directory in before.order_by("-job_id").values_list("run_id", "job__directory"):
        found[run_id] = (*found.get(run_id, ()), Path(directory))
    return found


def _granted_to(jobs: Sequence[Job]) -> dict[int, list[GrantedDevice]]:
    columns = ("job_id", "device__kind", "device__uuid", "device__model_name", "memory_mib")
    leases = Lease.objects.filter(job__in=jobs).order_by("device__index").values_list(*columns)
    granted: dict[int, list[GrantedDevice]] = {}
    for job_id, kind, uuid, model_name, memory_mib in leases:
        device = GrantedDevice(kind=kind, uuid=uuid, model_name=model_name, memory_mib=memory_mib)
        granted.setdefault(job_id, []).append(device)
    return granted


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
