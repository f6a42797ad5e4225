"""One look at a node: what is used, by whom, and what is broken, written to its rows.

A GPU that does not answer, is in MIG mode or counted new memory errors is drained, with NVML's words; what runs there
goes on or fails by itself. It takes jobs again when a person resumes it. One that is only gone comes back by itself.
"""

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction

from scheduler.dispatch import request_tick
from scheduler.inventory import foreign, host, nodes, nvml, owners, series
from scheduler.inventory.foreign import ForeignUse
from scheduler.inventory.nvml import Gpu
from scheduler.models import Device, HostReading, Node, Reading

_Seen = list[tuple[Device, Gpu, ForeignUse]]


def look(*, node: Node, now: datetime, before: datetime | None = None) -> None:
    """`before` is when this node was looked at before. What simulated devices do is known, and not measured."""
    if node.is_simulated:
        return
    has_gpus = node.devices.filter(kind=Device.Kind.GPU).exists()
    seen = _looked_at(node, nvml.read()) if has_gpus else []
    keep_until = series.keep_until(at=now, before=before)
    with transaction.atomic():
        freed = [_store(*one) for one in seen]
        if any(freed):
            request_tick()
        Reading.objects.bulk_create(_reading(*one, now, keep_until) for one in seen)
        HostReading.objects.create(
            node=node, at=now, keep_until=keep_until, used_mib=host.used_mib(), load=host.load()
        )


def uses_of(node: Node, gpus: Sequence[Gpu]) -> list[ForeignUse]:
    """Who else uses them; ask only after they were read, so that a job launched meanwhile is known."""
    jobs = owners.open_jobs_of(node)
    held = set(Device.objects.filter(node=node, allocated_mib__gt=0).values_list("uuid", flat=True))
    tolerated = frozenset(settings.TOLERATED_PROGRAMS)
    return [
        foreign.of_gpu(gpu, job_of=jobs.job_of, is_held=gpu.uuid in held, tolerated=tolerated) for gpu in gpus
    ]


def store_use(device: Device, use: ForeignUse) -> bool:
    """Whether others use less of it than before."""
    told = {"foreign_mib": use.memory_mib, "foreign_use": use.sentence}
    Device.objects.filter(pk=device.pk).exclude(**told).update(**told)
    return use.memory_mib < device.foreign_mib


def _looked_at(node: Node, seen: nvml.Gpus) -> _Seen:
    """Bring the rows up to which GPUs there are; then what each does."""
    if _changed(node, seen):
        nvml.begin_anew()
        found = nodes.read_node(name=node.name, cpu_slots=settings.CPU_SLOTS)
        nodes.record(found)
        request_tick()
    uses = uses_of(node, seen.gpus)
    devices = {device.uuid: device for device in node.devices.exclude(state=Device.State.GONE)}
    pairs = zip(seen.gpus, uses, strict=True)
    return [(devices[gpu.uuid], gpu, use) for gpu, use in pairs if gpu.uuid in devices]


def _changed(node: Node, seen: nvml.Gpus) -> bool:
    """Whether there are GPUs that its rows do not have, or the other way round."""
    rows = node.devices.filter(kind=Device.Kind.GPU).exclude(state=Device.State.GONE)
    known, there = set(rows.values_list("uuid", "index")), {(gpu.uuid, gpu.index) for gpu in seen.gpus}
    missing = rows.filter(uuid__in=[uuid for uuid, _ in known - there])
    if seen.failed or seen.problem:
        missing = missing.filter(state=Device.State.AVAILABLE)  # the others are drained already
    return bool(there - known) or missing.exists()


def _store(device: Device, gpu: Gpu, use: ForeignUse) -> bool:
    this = Device.objects.filter(pk=device.pk)
    this.update(utilisation_percent=gpu.utilisation_percent)
    if gpu.is_mig:
        nodes.drain(this, "It is in MIG mode, and labmgr gives whole GPUs only: nvidia-smi -mig 0 ends it.")
    _count_errors(device, gpu.uncorrected_errors)
    return store_use(device, use)


def _count_errors(device: Device, count: int | None) -> None:
    """Errors that a person resumed it in spite of are not counted again; the driver forgets them when it is loaded."""
    if count is None or count == device.uncorrected_errors:
        return
    this = Device.objects.filter(pk=device.pk)
    this.update(uncorrected_errors=count)
    if count > device.uncorrected_errors:
        nodes.drain(this, f"NVML counts {count} uncorrected memory errors since its driver was loaded.")


def _reading(device: Device, gpu: Gpu, use: ForeignUse, at: datetime, keep_until: datetime) -> Reading:
    measured = {
        field: value
        for field, value in dataclasses.asdict(gpu).items()
        if field in ("used_mib", "utilisation_percent", "temperature_celsius", "power_watts")
    }
    return Reading(device=device, at=at, keep_until=keep_until, foreign_mib=use.memory_mib, **measured)
