"""A job's rows as its program sees them."""

from pathlib import Path

from experiments.models import Run
from experiments.states import RunKind
from scheduler.dispatch import paths_of
from scheduler.models import Job, Lease
from scheduler.programs import PROGRAMS
from scheduler.programs.base import CarriedRun, GrantedDevice, PlacedJob, Program


def placed_job(job: Job) -> PlacedJob:
    """The job with those of its runs that have not ended."""
    runs = Run.objects.filter(launches__job=job, launches__is_open=True).select_related("depends_on")
    leases = Lease.objects.filter(job=job).select_related("device").order_by("device__index")
    return PlacedJob(
        job_id=job.pk,
        title=job.title,
        paths=paths_of(job),
        runs=tuple(_carried(run) for run in runs.order_by("pk")),
        devices=tuple(_granted(lease) for lease in leases),
        cpu_threads=job.cpu_threads,
    )


def program_of(job: PlacedJob) -> Program:
    return PROGRAMS[RunKind(job.runs[0].spec.kind)]


def _carried(run: Run) -> CarriedRun:
    before = run.depends_on
    return CarriedRun(
        run_id=run.pk,
        name=run.name,
        spec=run.parsed_spec,
        cancelled=run.cancel_requested_at is not None,
        builds_on_spec=before.parsed_spec if before else None,
        builds_on_directory=Path(before.directory) if before else None,
    )


def _granted(lease: Lease) -> GrantedDevice:
    device = lease.device
    return GrantedDevice(
        kind=device.kind, uuid=device.uuid, model_name=device.model_name, memory_mib=lease.memory_mib
    )
