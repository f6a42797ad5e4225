"""Reading the queue and what is free, without a lock, for one decision."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import F, Q

from experiments.models import Experiment, Run
from experiments.models.runs import RunQuerySet
from experiments.states import ALONE_AFTER, OPEN_JOB_STATES, RunKind, RunState, turn_of
from scheduler import grouping
from scheduler.allocation import Decision, FreeDevice, FreeNode, QueueItem, Running, could_hold, place
from scheduler.grouping import EligibleRun
from scheduler.models import Device, Job, Lease, Node

LOOKED_AT = 1000  # of the queue, when people ask why it waits

_COLUMNS = (
    "id",
    "kind",
    "cell__experiment_id",
    "cell__base_model_id",
    "engine_key",
    "cell__experiment__evaluation_hold_seconds",
    "devices",
    "device_memory_mib",
    "host_memory_mib",
    "cpu_threads",
    "pool",
    "limit_seconds",
    "avoided_node",
    "engine_crashes_count",
    "turn_at",
    "ready_at",
)
_WINDOW_COLUMNS = ("cell__experiment__max_parallel", "cell__experiment__open_jobs")
_DEVICE_COLUMNS = (
    "id",
    "index",
    "memory_mib",
    "allocated_mib",
    "foreign_mib",
    "utilisation_percent",
    "state",
    "state_message",
)
_JOB_COLUMNS = (
    "pk",
    "node__name",
    "host_memory_mib",
    "cpu_threads",
    "limit_seconds",
    "started_at",
    "placed_at",
)


def decide(
    *, now: datetime, pool: str | None = None, most: int | None = None, wider: Collection[int] = ()
) -> Decision:
    """What would start now, and why the other queued runs wait; of one pool, where it is named.

    With `most`, only so many runs of a pool are looked at beyond one for each free device, none whose experiment has
    no window left and none of a pool without a free device: what a tick can afford however deep the queue is. Then
    it says nothing of the others. The windows of the experiments in `wider` are taken to be larger by one.
    """
    nodes = free_nodes(pool=pool)
    runs, windows = (eligible_runs(), open_windows()) if most is None else _front(nodes, most, wider)
    windows = {pk: left + (pk in wider) for pk, left in windows.items()}
    running = _RunningJobs(now, pool)

    def place_here(items: list[QueueItem]) -> Decision:
        return place(items, nodes, windows, running, now.timestamp())

    training = _training() if any(run.kind is RunKind.EVALUATE for run in runs) else frozenset()
    return grouping.decide(runs=runs, training=training, now=now.timestamp(), place=place_here)


def eligible_runs() -> list[EligibleRun]:
    """What waits for nothing but devices, the first of the queue."""
    return [_eligible(row) for row in _ready().values_list(*_COLUMNS)[:LOOKED_AT]]


def expected_runs(runs: RunQuerySet, *, now: datetime) -> list[EligibleRun]:
    """Runs in the order in which they have their turn or will have it; one that is not ready counts from when it was
    queued, and one that is not queued from now."""
    asked = runs.filter(cancel_requested_at__isnull=True).values_list(*_COLUMNS, "queued_at", "priority")
    found = []
    for *row, _, ready_at, queued_at, priority in asked:
        arrived_at = ready_at or queued_at or now
        found.append(_eligible((*row, turn_of(ready_at=arrived_at, priority=priority), arrived_at)))
    return sorted(found, key=lambda run: (run.turn, run.run_id))


def nodes_that_could_hold(run_id: int) -> frozenset[str]:
    """The names of those that have an agent now."""
    found = [_eligible(row) for row in Run.objects.filter(pk=run_id).values_list(*_COLUMNS)]
    return could_hold(grouping.item_of(found), free_nodes(pool=found[0].pool)) if found else frozenset()


def free_nodes(*, pool: str | None = None) -> list[FreeNode]:
    """Nodes that have an agent, with all their devices; what is drained is there and not offered."""
    nodes = Node.objects.live()
    if pool is not None:
        nodes = nodes.filter(pool=pool)
    by_id = {node.pk: node for node in nodes}
    devices: dict[int, list[FreeDevice]] = {}
    there = Device.objects.filter(node__in=by_id).exclude(state=Device.State.GONE).order_by("index")
    for node_id, *row in there.values_list("node_id", *_DEVICE_COLUMNS):
        devices.setdefault(node_id, []).append(_free_device(by_id[node_id], row))
    return [_free_node(node, devices.get(pk, [])) for pk, node in by_id.items()]


def running_by_job(*, now: datetime, pool: str | None = None) -> dict[int, Running]:
    """What open jobs hold, and when their limits end them at the latest."""
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES).order_by()
    leases = Lease.objects.filter(released_at__isnull=True).order_by()
    if pool is not None:
        jobs, leases = jobs.filter(node__pool=pool), leases.filter(job__node__pool=pool)
    held: dict[int, dict[int, int]] = {}
    for job_id, device_id, memory_mib in leases.values_list("job_id", "device_id", "memory_mib"):
        held.setdefault(job_id, {})[device_id] = memory_mib
    return {row[0]: _running(row, held.get(row[0], {}), now) for row in jobs.values_list(*_JOB_COLUMNS)}


@dataclass(frozen=True)
class _RunningJobs:
    """Read only where something would pass a head, which few ticks have to ask."""

    now: datetime
    pool: str | None

    def __iter__(self) -> Iterator[Running]:
        return iter(self._read)

    @cached_property
    def _read(self) -> list[Running]:
        return list(running_by_job(now=self.now, pool=self.pool).values())


def _running(row: tuple[Any, ...], held_mib: Mapping[int, int], now: datetime) -> Running:
    _, node, host_mib, threads, limit, started, placed = row
    ends_at = (started or placed) + timedelta(seconds=limit)
    return Running(
        node=node,
        device_mib=held_mib,
        host_memory_mib=host_mib,
        cpu_threads=threads,
        ends_at=max(now, ends_at).timestamp(),
    )


def open_windows() -> dict[int, int]:
    queued = Run.objects.queued().values("cell__experiment_id")
    approved = Experiment.objects.filter(approved_at__isnull=False, pk__in=queued)
    columns = ("id", "max_parallel", "open_jobs")
    return {pk: most - open_jobs for pk, most, open_jobs in approved.values_list(*columns)}


def _ready() -> RunQuerySet:
    ready = Q(depends_on__isnull=True) | Q(depends_on__state=RunState.SUCCEEDED)
    runs = (
        Run.objects.queued().unpaused().filter(ready, cancel_requested_at__isnull=True, turn_at__isnull=False)
    )
    return runs.order_by("turn_at", "id")


def _front(
    nodes: Iterable[FreeNode], most: int, wider: Collection[int]
) -> tuple[list[EligibleRun], dict[int, int]]:
    """The first runs of every pool that has something free, and what is left of their experiments' windows."""
    is_open = Q(cell__experiment__open_jobs__lt=F("cell__experiment__max_parallel"))
    runs = _ready().filter((is_open | Q(cell__experiment_id__in=wider)) if wider else is_open)
    free = Counter(node.pool for node in nodes for device in node.devices if device.free_mib)
    rows = [
        row
        for pool, devices in sorted(free.items())
        for row in runs.filter(pool=pool).values_list(*_WINDOW_COLUMNS, *_COLUMNS)[: devices + most]
    ]
    found = [(_eligible(row), most_open - open_jobs) for most_open, open_jobs, *row in rows]
    return [run for run, _ in found], {run.experiment_id: left for run, left in found}


def _training() -> frozenset[grouping.BaseOfExperiment]:
    running = Run.objects.filter(state=RunState.RUNNING, kind=RunKind.FINETUNE)
    return frozenset(running.values_list("cell__experiment_id", "cell__base_model_id"))


def _eligible(row: Sequence[Any]) -> EligibleRun:
    (
        run_id,
        kind,
        experiment,
        base,
        key,
        hold,
        devices,
        device_mib,
        host_mib,
        threads,
        pool,
        limit,
        avoided,
        crashes,
        turn_at,
        ready_at,
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
        goes_alone=crashes >= ALONE_AFTER,
    )


def _free_device(node: Node, row: Sequence[Any]) -> FreeDevice:
    device_id, index, memory_mib, allocated_mib, foreign_mib, utilisation_percent, state, message = row
    is_offered = state == Device.State.AVAILABLE and not node.is_draining
    return FreeDevice(
        id=device_id,
        node=node.name,
        index=index,
        memory_mib=memory_mib,
        free_mib=max(0, memory_mib - allocated_mib - foreign_mib),
        utilisation_percent=utilisation_percent or 0,
        is_offered=is_offered,
        withheld_because="" if is_offered else node.drain_message or message,
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
