"""What this machine offers: GPUs by NVML, else CPU slots; and simulated devices, on a node of their own."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Case, CharField, F, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Greatest

from scheduler.inventory import nvml
from scheduler.inventory.nvml import FailedGpu
from scheduler.models import Device, Node

_MIB = 1024 * 1024
_OUT_OF_THE_WAY = 1_000_000  # of the indexes that are about to be written
_SIMULATED = re.compile(r"^(\d{1,5})x(\d{1,6})(GiB|MiB)$")


@dataclass(frozen=True, kw_only=True)
class DeviceReading:
    index: int
    kind: Device.Kind
    uuid: str
    model_name: str
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class NodeReading:
    name: str
    is_simulated: bool
    host_memory_mib: int
    cpu_threads: int
    devices: tuple[DeviceReading, ...]
    pool: str = ""
    failed: tuple[FailedGpu, ...] = ()  # GPUs that are there and do not answer
    gpu_problem: str = ""  # why no GPU can be seen at all


def read_node(*, name: str, cpu_slots: int) -> NodeReading:
    """GPUs where there are any, also such as do not answer; else CPU slots."""
    seen = nvml.read()
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    has_gpus = seen.gpus or seen.failed or (seen.problem and not seen.is_absent)
    devices = _gpus(seen) if has_gpus else _cpu_slots(name, cpu_slots, memory_mib)
    return NodeReading(
        name=name,
        is_simulated=False,
        host_memory_mib=memory_mib,
        cpu_threads=max(os.cpu_count() or 1, len(devices)),
        devices=devices,
        failed=seen.failed,
        gpu_problem=seen.problem,
    )


def read_simulated(*, name: str, text: str) -> NodeReading:
    """`8x80GiB` as a node. Raises ImproperlyConfigured."""
    match = _SIMULATED.match(text)
    if not match:
        raise ImproperlyConfigured(
            f"SIMULATED_DEVICES={text!r} is not like 8x80GiB or 2x4096MiB; correct or unset it."
        )
    count, memory_mib = int(match[1]), int(match[2]) * (1024 if match[3] == "GiB" else 1)
    devices = tuple(
        DeviceReading(
            index=index,
            kind=Device.Kind.SIMULATED,
            uuid=f"{name}/simulated/{index}",
            model_name="simulated GPU",
            memory_mib=memory_mib,
        )
        for index in range(count)
    )
    return NodeReading(
        name=name,
        is_simulated=True,
        host_memory_mib=count * memory_mib,
        cpu_threads=1000 * count,
        devices=devices,
    )


@transaction.atomic
def record(reading: NodeReading) -> Node:
    """Bring the node's rows up to a reading. What is held stays held, also of devices that are gone."""
    node, is_new = Node.objects.get_or_create(name=reading.name, defaults=_node_facts(reading))
    if not is_new:
        Node.objects.filter(pk=node.pk).update(
            is_simulated=reading.is_simulated,
            pool=reading.pool,
            host_memory_mib=Greatest(reading.host_memory_mib, F("allocated_host_memory_mib")),
            cpu_threads=Greatest(reading.cpu_threads, F("allocated_cpu_threads")),
        )
    gpus = node.devices.filter(kind=Device.Kind.GPU).exclude(state=Device.State.GONE)
    if reading.gpu_problem and gpus.exists():  # a fault of its driver makes no machine of CPU slots
        drain(gpus, reading.gpu_problem)
    else:
        _record_devices(node, reading)
    node.refresh_from_db()
    return node


def drain(devices: QuerySet[Device], message: str) -> int:
    """Let what is available take no more jobs; what a person drained keeps that person's word."""
    available = devices.filter(state=Device.State.AVAILABLE)
    return available.update(state=Device.State.DRAINED, state_message=message)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _node_facts(reading: NodeReading) -> dict[str, Any]:
    return {
        "is_simulated": reading.is_simulated,
        "pool": reading.pool,
        "host_memory_mib": reading.host_memory_mib,
        "cpu_threads": reading.cpu_threads,
    }


def _record_devices(node: Node, reading: NodeReading) -> None:
    uuids = [device.uuid for device in reading.devices]
    absent = node.devices.exclude(uuid__in=uuids).exclude(state=Device.State.GONE)
    failed = {gpu.index: absent.filter(_is_of(gpu)) for gpu in reading.failed}
    kept = {index: list(devices.values_list("pk", flat=True)) for index, devices in failed.items()}
    _mark_gone(absent.exclude(pk__in=[pk for pks in kept.values() for pk in pks]))
    node.devices.exclude(state=Device.State.GONE).update(index=F("index") + _OUT_OF_THE_WAY)
    for gpu in reading.failed:
        drain(node.devices.filter(pk__in=kept[gpu.index]), gpu.message)
        node.devices.filter(pk__in=kept[gpu.index]).update(index=gpu.index)
    for device in reading.devices:
        _record_device(node, device)


def _is_of(gpu: FailedGpu) -> Q:
    """Its row: by its UUID, or, where even that cannot be read, by where it was."""
    return Q(uuid=gpu.uuid) if gpu.uuid else Q(index=gpu.index, kind=Device.Kind.GPU)


def _mark_gone(devices: QuerySet[Device]) -> None:
    """Why a device took no jobs outlasts its absence."""
    available = When(state=Device.State.AVAILABLE, then=Value(""))
    unsaid = When(state_message="", then=Value("It took no jobs before it was gone."))
    devices.update(
        withheld_because=Case(available, unsaid, default=F("state_message"), output_field=TextField()),
        state=Device.State.GONE,
        state_message="It is not there any more.",
        foreign_mib=0,
        foreign_use="",
    )


def _record_device(node: Node, reading: DeviceReading) -> None:
    facts = {"node": node, "index": reading.index, "kind": reading.kind, "model_name": reading.model_name}
    returned = Device.objects.filter(uuid=reading.uuid, state=Device.State.GONE)
    free = When(withheld_because="", then=Value(Device.State.AVAILABLE))
    returned.update(
        index=reading.index,
        state=Case(free, default=Value(Device.State.DRAINED), output_field=CharField()),
        state_message=F("withheld_because"),
        withheld_because="",
    )
    _, is_new = Device.objects.get_or_create(
        uuid=reading.uuid, defaults={**facts, "memory_mib": reading.memory_mib}
    )
    if not is_new:
        memory_mib = Greatest(reading.memory_mib, F("allocated_mib"))
        Device.objects.filter(uuid=reading.uuid).update(**facts, memory_mib=memory_mib)


def _cpu_slots(node: str, count: int, memory_mib: int) -> tuple[DeviceReading, ...]:
    """Named after the processor, since what is measured on one says little of another."""
    model_name = f"CPU slot ({_processor()})"
    return tuple(
        DeviceReading(
            index=index,
            kind=Device.Kind.CPU,
            uuid=f"{node}/cpu/{index}",
            model_name=model_name,
            memory_mib=memory_mib // count,
        )
        for index in range(count)
    )


def _processor() -> str:
    """As the kernel names it; it names none on some machines."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def _gpus(seen: nvml.Gpus) -> tuple[DeviceReading, ...]:
    return tuple(
        DeviceReading(
            index=gpu.index,
            kind=Device.Kind.GPU,
            uuid=gpu.uuid,
            model_name=gpu.model_name,
            memory_mib=gpu.memory_mib,
        )
        for gpu in seen.gpus
    )
