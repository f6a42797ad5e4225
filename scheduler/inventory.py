"""What this machine offers: GPUs by NVML, else CPU slots; and simulated devices, on a node of their own."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

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


def read_node(*, name: str, cpu_slots: int) -> NodeReading:
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    devices = _gpus() or _cpu_slots(name, cpu_slots, memory_mib)
    threads = max(os.cpu_count() or 1, len(devices))
    return NodeReading(
        name=name, is_simulated=False, host_memory_mib=memory_mib, cpu_threads=threads, devices=devices
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
    gone = node.devices.exclude(uuid__in=[device.uuid for device in reading.devices])
    gone.update(state=Device.State.GONE, state_message="It is not there any more.")
    node.devices.exclude(state=Device.State.GONE).update(index=F("index") + _OUT_OF_THE_WAY)
    for device in reading.devices:
        _record_device(node, device)
    node.refresh_from_db()
    return node


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _node_facts(reading: NodeReading) -> dict[str, Any]:
    return {
        "is_simulated": reading.is_simulated,
        "pool": reading.pool,
        "host_memory_mib": reading.host_memory_mib,
        "cpu_threads": reading.cpu_threads,
    }


def _record_device(node: Node, reading: DeviceReading) -> None:
    facts = {"node": node, "index": reading.index, "kind": reading.kind, "model_name": reading.model_name}
    returned = Device.objects.filter(uuid=reading.uuid, state=Device.State.GONE)
    returned.update(index=reading.index, state=Device.State.AVAILABLE, state_message="")
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


def _gpus() -> tuple[DeviceReading, ...]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> DeviceReading:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    return DeviceReading(
        index=index,
        kind=Device.Kind.GPU,
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        model_name=pynvml.nvmlDeviceGetName(handle),
        memory_mib=pynvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB,
    )
