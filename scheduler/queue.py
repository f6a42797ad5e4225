"""Reading the queue and what is free, without a lock, for one decision."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce

from experiments.models import Experiment, Run
from experiments.states import OPEN_JOB_STATES, RunKind, RunState
from scheduler import grouping
from scheduler.allocation import Decision, FreeDevice, FreeNode, QueueItem, Running, place
from scheduler.grouping import EligibleRun
from scheduler.models import Device, Job, Lease, Node

LOOKED_AT = 1000  # of a pool's queue, in its order: what is further behind hardly starts now

_COLUMNS = (
    "id",
    "kind",
    "cell__experiment_id",
    "cell__base_model_id",
    "engine_key",
    "turn_at",
    "ready_at",
    "cell__experiment__evaluation_hold_seconds",
    "devices",
    "device_memory_mib",
    "host_memory_mib",
    "cpu_threads",
    "pool",
    "limit_seconds",
    "avoided_node",
)


def decide(*, now: datetime, looked_at: int = LOOKED_AT) -> Decision:
    """What would start now, and why the other queued runs wait: of those that are looked at, the first of each pool."""
    nodes, windows, running = free_nodes(), open_windows(), running_by_job(now=now)

    def place_here(items: list[QueueItem]) -> Decision:
        return place(items, nodes, windows, running.values(), now.timestamp())

    return grouping.decide(
        runs=eligible_runs(looked_at=looked_at), training=_training(), now=now.timestamp(), place=place_here
    )


def eligible_runs(*, looked_at: int = LOOKED_AT) -> list[EligibleRun]:
    """What waits for devices only, the first of each pool. What its window holds takes no place among them."""
    ready = Q(depends_on__isnull=True) | Q(depends_on__state=RunState.SUCCEEDED)
    runs = Run.objects.queued().filter(ready, cancel_requested_at__isnull=True, turn_at__isnull=False)
    open_to_more = runs.filter(cell__experiment__open_jobs__lt=F("cell__experiment__max_parallel"))
    found = [_eligible(row) for part in _pools(open_to_more) for row in _first(part, looked_at)]
    left = looked_at - len(found)
    held = runs.filter(cell__experiment__open_jobs__gte=F("cell__experiment__max_parallel"))
    return found + [_eligible(row) for row in (_first(held, left) if left > 0 else [])]


def _pools(runs: QuerySet[Run]) -> Iterable[QuerySet[Run]]:
    """One query where there is one pool only."""
    pools = set(Node.objects.values_list("pool", flat=True)) | {""}
    if len(pools) == 1:
        return [runs]
    known = [runs.filter(pool=pool) for pool in pools]
    return [*known, runs.exclude(pool__in=pools)]


def _first(runs: QuerySet[Run], count: int) -> Iterable[tuple[Any, ...]]:
    return runs.order_by("turn_at", "id").values_list(*_COLUMNS)[:count]


def queued_runs() -> list[EligibleRun]:
    """All that is queued, what waits for another run, too; that one arrives when it was queued."""
    runs = Run.objects.queued().filter(cancel_requested_at__isnull=True).order_by("id")
    arrived = runs.annotate(
        arrived_at=Coalesce("ready_at", "queued_at"), turns_at=Coalesce("turn_at", "queued_at")
    )
    renamed = {"ready_at": "arrived_at", "turn_at": "turns_at"}
    columns = [renamed.get(column, column) for column in _COLUMNS]
    return [_eligible(row) for row in arrived.values_list(*columns)]


def free_nodes() -> list[FreeNode]:
    """Nodes that have an agent, with all their devices; what is drained is there and not offered."""
    nodes = {node.pk: node for node in Node.objects.filter(session_renewed_at__isnull=False)}
    devices: dict[int, list[FreeDevice]] = {}
    for device in Device.objects.filter(node__in=nodes).exclude(state=Device.State.GONE).order_by("index"):
        devices.setdefault(device.node_id, []).append(_free_device(device, nodes[device.node_id]))
    return [_free_node(node, devices.get(pk, [])) for pk, node in nodes.items()]


def running_by_job(*, now: datetime) -> dict[int, Running]:
    """What open jobs hold, and when their limits end them at the latest."""
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES).order_by()
    held = _held_mib()
    columns = (
        "pk",
        "node__name",
        "host_memory_mib",
        "cpu_threads",
        "limit_seconds",
        "started_at",
        "placed_at",
    )
    return {
        pk: Running(
            node=node,
            device_mib=held.get(pk, {}),
            host_memory_mib=host_mib,
            cpu_threads=threads,
            ends_at=max(
                now, (started or placed) + timedelta(seconds=limit + settings.GRACE_SECONDS)
            ).timestamp(),
        )
        for pk, node, host_mib, threads, limit, started, placed in jobs.values_list(*columns)
    }


def _held_mib() -> Mapping[int, dict[int, int]]:
    """Job -> device -> MiB."""
    held: dict[int, dict[int, int]] = {}
    leases = Lease.objects.filter(released_at__isnull=True).order_by()
    for job_id, device_id, memory_mib in leases.values_list("job_id", "device_id", "memory_mib"):
        held.setdefault(job_id, {})[device_id] = memory_mib
    return held


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
        turn_at,
        ready_at,
        hold,
        devices,
        device_mib,
        host_mib,
        threads,
        pool,
        limit,
        avoided,
    ) = row
    return EligibleRun(
        run_id=run_id,
        kind=RunKind(kind),
        experiment_id=experiment,
        base_model_id=base,
        engine_key=key,
        turn=turn_at.timestamp(),
        hold_until=ready_at.timestamp() + hold,
        devices=devices,
        device_memory_mib=device_mib,
        host_memory_mib=host_mib,
        cpu_threads=threads,
        pool=pool,
        limit_seconds=limit,
        avoided_node=avoided,
    )


def _free_device(device: Device, node: Node) -> FreeDevice:
    return FreeDevice(
        id=device.pk,
        node=node.name,
        index=device.index,
        memory_mib=device.memory_mib,
        free_mib=device.memory_mib - device.allocated_mib,
        is_offered=device.state == Device.State.AVAILABLE and not node.is_draining,
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
