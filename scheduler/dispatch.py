"""The tick: read without a lock, decide in memory, apply each placement in one short transaction of guarded updates.

What went stale meanwhile (a cancelled run, a device that another tick gave away) rolls its placement back and is
decided anew by the next tick. Messages go out after commit; the sender is handed in.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F

from experiments import lifecycle
from experiments.models import Experiment, Run
from experiments.states import JobState, RunKind
from scheduler import queue
from scheduler.allocation import Placement
from scheduler.models import Device, Job, Launch, Lease, Node, TickRequest
from scheduler.paths import JobPaths, job_paths

log = logging.getLogger(__name__)

Send = Callable[[Job], None]


class _Stale(Exception):
    """Somebody else was first; nothing of this placement stays."""


def tick(*, now: datetime, send: Send) -> int:
    """Start what can start; returns how many jobs were placed."""
    if TickRequest.objects.filter(is_paused=True).exists():
        return 0
    decision = queue.decide(now=now)
    return sum(_applied(placement, now, send) for placement in decision.placements)


def request_tick() -> None:
    """Something was freed or is needed: within the transaction that did it, so that no wake-up is lost."""
    row = TickRequest.objects.filter(pk=1)
    if not row.update(requested=F("requested") + 1):
        _, created = TickRequest.objects.get_or_create(pk=1, defaults={"requested": 1})
        if not created:  # somebody else's first request came in between, and did not count ours
            row.update(requested=F("requested") + 1)


def paths_of(job: Job) -> JobPaths:
    return job_paths(
        run_root=settings.RUN_ROOT,
        control_root=settings.CONTROL_ROOT,
        experiment=job.experiment.name,
        title=job.title,
        job_id=job.pk,
        placed_at=job.placed_at,
    )


def _applied(placement: Placement, now: datetime, send: Send) -> bool:
    try:
        with transaction.atomic():
            job = _apply(placement, now)
            transaction.on_commit(lambda: send(job))
    except _Stale as stale:
        log.info("placement of runs %s went stale: %s", placement.item.run_ids, stale)
        return False
    return True


def _apply(placement: Placement, now: datetime) -> Job:
    runs = list(Run.objects.filter(pk__in=placement.item.run_ids).order_by("pk"))
    _take_window(placement.item.experiment_id)
    job = _create_job(placement, runs, now)
    _take_node(placement)
    for device_id in placement.device_ids:
        _lease(job, device_id, placement.item.device_memory_mib)
    Launch.objects.bulk_create(Launch(job=job, run=run) for run in runs)
    started = lifecycle.start(run_ids=placement.item.run_ids, job_id=job.pk, directory=job.directory, now=now)
    if started != len(placement.item.run_ids):
        raise _Stale("a run of it is not queued any more")
    return job


def _create_job(placement: Placement, runs: list[Run], now: datetime) -> Job:
    item = placement.item
    job = Job.objects.create(
        node=Node.objects.get(name=placement.node),
        experiment=Experiment.objects.get(pk=item.experiment_id),
        title=_title(runs),
        state=JobState.PLACED,
        limit_seconds=sum(run.limit_seconds for run in runs),
        host_memory_mib=item.host_memory_mib,
        cpu_threads=item.cpu_threads,
        placed_at=now,
    )
    job.directory = str(paths_of(job).directory)
    job.save(update_fields=["directory"])
    return job


def _title(runs: list[Run]) -> str:
    if len(runs) == 1:
        return runs[0].name
    shared = (
        runs[0].cell.base_model.name if runs[0].kind == RunKind.EVALUATE and runs[0].cell.base_model else ""
    )
    return f"{shared}/evaluate-{len(runs)}"


def _take_window(experiment_id: int) -> None:
    window = Experiment.objects.filter(pk=experiment_id, open_jobs__lt=F("max_parallel"))
    if not window.update(open_jobs=F("open_jobs") + 1):
        raise _Stale("its experiment has max_parallel jobs open")


def _take_node(placement: Placement) -> None:
    item = placement.item
    room = Node.objects.filter(
        name=placement.node,
        is_draining=False,
        host_memory_mib__gte=F("allocated_host_memory_mib") + item.host_memory_mib,
        cpu_threads__gte=F("allocated_cpu_threads") + item.cpu_threads,
    )
    taken = room.update(
        allocated_host_memory_mib=F("allocated_host_memory_mib") + item.host_memory_mib,
        allocated_cpu_threads=F("allocated_cpu_threads") + item.cpu_threads,
    )
    if not taken:
        raise _Stale(f"node {placement.node} has no room any more")


def _lease(job: Job, device_id: int, memory_mib: int | None) -> None:
    """A share, or the whole device, which must then be held by nobody."""
    devices = Device.objects.filter(pk=device_id, state=Device.State.AVAILABLE)
    if memory_mib is None:
        taken = devices.filter(allocated_mib=0).update(allocated_mib=F("memory_mib"))
    else:
        room = devices.filter(memory_mib__gte=F("allocated_mib") + memory_mib)
        taken = room.update(allocated_mib=F("allocated_mib") + memory_mib)
    if not taken:
        raise _Stale(f"device {device_id} is not free any more")
    granted = memory_mib or Device.objects.values_list("memory_mib", flat=True).get(pk=device_id)
    Lease.objects.create(job=job, device_id=device_id, memory_mib=granted)
