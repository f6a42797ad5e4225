"""Reading the queue and what is free, without a lock, for one decision."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce

from experiments.models import Experiment, Run
from experiments.models.runs import RunQuerySet
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
    "pool",
)
_DEVICE_COLUMNS = ("id", "node__name", "index", "memory_mib", "allocated_mib")


def decide(*, now: datetime, pool: str | None = None, most: int | None = None) -> Decision:
    """What would start now, and why the other queued runs wait; of one pool, where it is named.

    With `most`, only so many runs of a pool are looked at, none whose experiment has no window left and none of a
    pool without a free device: what a tick can afford however deep the queue is. Then it says nothing of the others.
    """
    nodes = free_nodes(pool=pool)
    runs = eligible_runs() if most is None else _front(nodes, most)
    windows = open_windows() if most is None else _windows_of({run.experiment_id for run in runs})

    def place_here(items: list[QueueItem]) -> Decision:
        return place(items, nodes, windows)

    return grouping.decide(runs=runs, training=_training(), now=now.timestamp(), place=place_here)


def eligible_runs() -> list[EligibleRun]:
    return [_eligible(row) for row in _ready().order_by("id").values_list(*_COLUMNS)]


def queued_runs() -> list[EligibleRun]:
    """All that is queued, what waits for another run, too; that one arrives when it was queued."""
    runs = Run.objects.queued().filter(cancel_requested_at__isnull=True)
    arrived = runs.annotate(arrived_at=Coalesce("ready_at", "queued_at")).order_by("id")
    columns = ["arrived_at" if column == "ready_at" else column for column in _COLUMNS]
    return [_eligible(row) for row in arrived.values_list(*columns)]


def free_nodes(*, pool: str | None = None) -> list[FreeNode]:
    nodes = Node.objects.filter(is_draining=False, session_renewed_at__isnull=False)
    available = Device.objects.filter(state=Device.State.AVAILABLE)
    if pool is not None:
        nodes, available = nodes.filter(pool=pool), available.filter(node__pool=pool)
    devices: dict[str, list[FreeDevice]] = {}
    for row in available.order_by("index").values_list(*_DEVICE_COLUMNS):
        devices.setdefault(row[1], []).append(_free_device(row))
    return [_free_node(node, devices.get(node.name, [])) for node in nodes]


def open_windows() -> dict[int, int]:
    queued = Run.objects.queued().values("cell__experiment_id")
    return _windows_of(queued)


def _windows_of(experiment_ids: Collection[int] | QuerySet[Any, Any]) -> dict[int, int]:
    approved = Experiment.objects.filter(approved_at__isnull=False, pk__in=experiment_ids)
    return {
        pk: most - open_jobs
        for pk, most, open_jobs in approved.values_list("id", "max_parallel", "open_jobs")
    }


def _ready() -> RunQuerySet:
    ready = Q(depends_on__isnull=True) | Q(depends_on__state=RunState.SUCCEEDED)
    return Run.objects.queued().filter(ready, cancel_requested_at__isnull=True, ready_at__isnull=False)


def _front(nodes: Iterable[FreeNode], most: int) -> list[EligibleRun]:
    """The first so many runs of every pool that has something free."""
    closed = list(Experiment.objects.filter(open_jobs__gte=F("max_parallel")).values_list("pk", flat=True))
    open_runs = _ready().exclude(cell__experiment_id__in=closed).order_by("-priority", "ready_at", "id")
    pools = sorted({node.pool for node in nodes if any(device.free_mib for device in node.devices)})
    return [
        _eligible(row) for pool in pools for row in open_runs.filter(pool=pool).values_list(*_COLUMNS)[:most]
    ]


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
        pool,
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
        pool=pool,
    )


def _free_device(row: tuple[int, str, int, int, int]) -> FreeDevice:
    device_id, node, index, memory_mib, allocated_mib = row
    return FreeDevice(
        id=device_id, node=node, index=index, memory_mib=memory_mib, free_mib=memory_mib - allocated_mib
    )


def _free_node(node: Node, devices: list[FreeDevice]) -> FreeNode:
    return FreeNode(
        name=node.name,
        simulated=node.is_simulated,
        pool=node.pool,
        host_memory_mib=node.host_memory_mib - node.allocated_host_memory_mib,
        cpu_threads=node.cpu_threads - node.allocated_cpu_threads,
        total_host_memory_mib=node.host_memory_mib,
        total_cpu_threads=node.cpu_threads,
        devices=tuple(devices),
    )
