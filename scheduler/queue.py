"""Reading the queue and what is free, without a lock, for one decision."""

from datetime import datetime
from typing import Any

from django.db.models import F, Q
from django.db.models.functions import Coalesce

from experiments.models import Experiment, Run
from experiments.states import RunKind, RunState
from scheduler import grouping
from scheduler.allocation import Decision, FreeDevice, FreeNode, QueueItem, place
from scheduler.grouping import EligibleRun
from scheduler.models import Device, Node

_COLUMNS = (
    "id",
    "kind",
    "cell__experiment_id",
    "cell__base_model_id",
    "engine_key",
    "priority",
    "ready_at",
    "cell__experiment__evaluation_hold_seconds",
    "devices",
    "device_memory_mib",
    "host_memory_mib",
    "cpu_threads",
    "avoided_node",
)


def decide(*, now: datetime) -> Decision:
    """What would start now, and why the other queued runs wait."""
    nodes, windows = free_nodes(), open_windows()

    def place_here(items: list[QueueItem]) -> Decision:
        return place(items, nodes, windows)

    return grouping.decide(runs=eligible_runs(), training=_training(), now=now.timestamp(), place=place_here)


def eligible_runs() -> list[EligibleRun]:
    ready = Q(depends_on__isnull=True) | Q(depends_on__state=RunState.SUCCEEDED)
    runs = Run.objects.queued().filter(ready, cancel_requested_at__isnull=True, ready_at__isnull=False)
    return [_eligible(row) for row in runs.order_by("id").values_list(*_COLUMNS)]


def queued_runs() -> list[EligibleRun]:
    """All that is queued, what waits for another run, too; that one arrives when it was queued."""
    runs = Run.objects.queued().filter(cancel_requested_at__isnull=True)
    arrived = runs.annotate(arrived_at=Coalesce("ready_at", "queued_at")).order_by("id")
    columns = ["arrived_at" if column == "ready_at" else column for column in _COLUMNS]
    return [_eligible(row) for row in arrived.values_list(*columns)]


def free_nodes() -> list[FreeNode]:
    devices: dict[int, list[FreeDevice]] = {}
    available = Device.objects.filter(state=Device.State.AVAILABLE).select_related("node").order_by("index")
    for device in available:
        devices.setdefault(device.node_id, []).append(_free_device(device))
    nodes = Node.objects.filter(is_draining=False, session_renewed_at__isnull=False)
    return [_free_node(node, devices.get(node.pk, [])) for node in nodes]


def open_windows() -> dict[int, int]:
    approved = Experiment.objects.filter(approved_at__isnull=False, cells__runs__state=RunState.QUEUED)
    return dict(
        approved.values_list("id").annotate(left=F("max_parallel") - F("open_jobs")).values_list("id", "left")
    )


def _training() -> frozenset[grouping.BaseOfExperiment]:
    running = Run.objects.filter(state=RunState.RUNNING, kind=RunKind.FINETUNE)
    return frozenset(running.values_list("cell__experiment_id", "cell__base_model_id"))


def _eligible(row: tuple[Any, ...]) -> EligibleRun:
    (
        run_id,
        kind,
        experiment,
        base,
        key,
        priority,
        ready_at,
        hold,
        devices,
        device_mib,
        host_mib,
        threads,
        avoided,
    ) = row
    return EligibleRun(
        run_id=run_id,
        kind=RunKind(kind),
        experiment_id=experiment,
        base_model_id=base,
        engine_key=key,
        priority=priority,
        arrived_at=ready_at.timestamp(),
        hold_until=ready_at.timestamp() + hold,
        devices=devices,
        device_memory_mib=device_mib,
        host_memory_mib=host_mib,
        cpu_threads=threads,
        avoided_node=avoided,
    )


def _free_device(device: Device) -> FreeDevice:
    return FreeDevice(
        id=device.pk,
        node=device.node.name,
        index=device.index,
        memory_mib=device.memory_mib,
        free_mib=device.free_mib,
    )


def _free_node(node: Node, devices: list[FreeDevice]) -> FreeNode:
    return FreeNode(
        name=node.name,
        simulated=node.is_simulated,
        host_memory_mib=node.host_memory_mib - node.allocated_host_memory_mib,
        cpu_threads=node.cpu_threads - node.allocated_cpu_threads,
        total_host_memory_mib=node.host_memory_mib,
        total_cpu_threads=node.cpu_threads,
        devices=tuple(devices),
    )
