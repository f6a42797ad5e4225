"""When queued and planned runs would start and end: the queue played forward with the same `place()`.

Reservations go by limits, forecasts by estimates: a run without an estimate makes what comes after it unknown.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Count

from experiments.conditions import software_of
from experiments.estimation import SECONDS
from experiments.fleet import AskedRun, DeviceKind, Fleet, Turn
from experiments.models import Estimate, Run
from experiments.states import OPEN_JOB_STATES, RunKind, RunState
from scheduler import queue
from scheduler.allocation import FreeNode, QueueItem, place
from scheduler.models import Device, Job, Lease
from scheduler.programs.environment import ml_versions

MOST_LOOKED_AT = 64  # of the queue at an event: what is further behind does not start then
MOST_PLAYED = 2000  # runs, with those ahead; beyond it a forecast would take longer than it is worth


class LabSchedule:
    """What settings.SCHEDULE names."""

    def fleet(self) -> Fleet:
        alike = (
            Device.objects.filter(state=Device.State.AVAILABLE)
            .values_list("model_name", "kind", "memory_mib", "node")
            .annotate(count=Count("pk"))
        )
        kinds: dict[tuple[str, str, int], list[int]] = {}
        for name, kind, memory_mib, _, count in alike.order_by():
            kinds.setdefault((name, kind, memory_mib), []).append(count)
        described = [
            DeviceKind(name=n, kind=k, memory_mib=m, count=sum(counts), most_on_a_node=max(counts))
            for (n, k, m), counts in kinds.items()
        ]
        return Fleet(
            kinds=tuple(sorted(described, key=lambda kind: (-kind.count, kind.name))),
            software=software_of(ml_versions(Path(settings.ML_PYTHON))),
        )

    def turns(self, *, runs: Sequence[AskedRun], max_parallel: int, now: datetime) -> Sequence[Turn]:
        ahead = _queued_ahead() if len(runs) <= MOST_PLAYED else {}
        if len(runs) + len(ahead) > MOST_PLAYED:
            return [Turn()] * len(runs)
        mine = {-1 - index: _asked(index, run) for index, run in enumerate(runs)}
        played = _Played(
            waiting=[*ahead.values(), *mine.values()],
            nodes=queue.free_nodes(),
            ends=_running_ends(now),
            windows={**queue.open_windows(), _MINE: max_parallel},
        )
        times = played.forward()
        return [_turn(times.get(key), now) for key in mine]


_MINE = 0  # no experiment has this id


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    key: int
    item: QueueItem
    seconds: float
    after: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What a running job gives back when it ends."""

    node: str
    devices: Mapping[int, int]  # device id -> MiB
    host_memory_mib: int
    cpu_threads: int
    experiment_id: int
    keys: tuple[int, ...]  # of the runs that are done then


class _Played:
    def __init__(
        self,
        *,
        waiting: list[_Waiting],
        nodes: list[FreeNode],
        ends: list[tuple[float, int, _Held]],
        windows: dict[int, int],
    ) -> None:
        self._waiting = {entry.key: entry for entry in waiting}
        self._nodes = {node.name: node for node in nodes}
        self._ends = ends
        self._windows = windows
        self._done: set[int] = set()
        self._times: dict[int, tuple[float, float]] = {}
        heapq.heapify(self._ends)

    def forward(self) -> dict[int, tuple[float, float]]:
        """Start and end of each waiting run, in seconds from now."""
        clock = 0.0
        self._start(clock)
        while self._ends and self._waiting and not math.isinf(self._ends[0][0]):
            clock, _, held = heapq.heappop(self._ends)
            self._give_back(held)
            self._start(clock)
        return self._times

    def _start(self, clock: float) -> None:
        eligible = [e for e in self._waiting.values() if e.after is None or e.after in self._done]
        front = sorted(eligible, key=lambda entry: entry.item.order)[:MOST_LOOKED_AT]
        by_run = {entry.item.run_ids[0]: entry for entry in front}
        for placement in place([e.item for e in front], list(self._nodes.values()), self._windows).placements:
            entry = by_run[placement.item.run_ids[0]]
            self._take(entry, placement.node, placement.device_ids, clock)

    def _take(self, entry: _Waiting, node: str, device_ids: tuple[int, ...], clock: float) -> None:
        item = entry.item
        memory = {d.id: item.device_memory_mib or d.memory_mib for d in self._nodes[node].devices}
        held = _Held(
            node=node,
            devices={device_id: memory[device_id] for device_id in device_ids},
            host_memory_mib=item.host_memory_mib,
            cpu_threads=item.cpu_threads,
            experiment_id=item.experiment_id,
            keys=(entry.key,),
        )
        self._change(held, -1)
        del self._waiting[entry.key]
        self._times[entry.key] = (clock, clock + entry.seconds)
        heapq.heappush(self._ends, (clock + entry.seconds, entry.key, held))

    def _give_back(self, held: _Held) -> None:
        self._change(held, 1)
        self._done.update(held.keys)

    def _change(self, held: _Held, sign: int) -> None:
        if held.experiment_id in self._windows:
            self._windows[held.experiment_id] += sign
        node = self._nodes.get(held.node)
        if node is None:  # it was drained meanwhile
            return
        devices = tuple(
            replace(d, free_mib=d.free_mib + sign * held.devices.get(d.id, 0)) for d in node.devices
        )
        self._nodes[held.node] = replace(
            node,
            devices=devices,
            host_memory_mib=node.host_memory_mib + sign * held.host_memory_mib,
            cpu_threads=node.cpu_threads + sign * held.cpu_threads,
        )


def _asked(index: int, run: AskedRun) -> _Waiting:
    item = QueueItem(
        run_ids=(-1 - index,),
        experiment_id=_MINE,
        order=(-run.priority, math.inf, index),
        devices=run.devices,
        device_memory_mib=run.device_memory_mib,
        host_memory_mib=run.host_memory_mib,
        cpu_threads=run.cpu_threads,
        simulated=run.simulated,
    )
    after = None if run.after is None else -1 - run.after
    seconds = math.inf if run.seconds is None else run.seconds
    return _Waiting(key=-1 - index, item=item, seconds=seconds, after=after)


def _queued_ahead() -> dict[int, _Waiting]:
    seconds = _estimated()
    waits_for = Run.objects.queued().exclude(depends_on__state=RunState.SUCCEEDED)
    dependent = dict(waits_for.values_list("pk", "depends_on"))
    return {
        run.run_id: _Waiting(
            key=run.run_id,
            item=QueueItem(
                run_ids=(run.run_id,),
                experiment_id=run.experiment_id,
                order=(-run.priority, run.arrived_at, run.run_id),
                devices=run.devices,
                device_memory_mib=run.device_memory_mib,
                host_memory_mib=run.host_memory_mib,
                cpu_threads=run.cpu_threads,
                simulated=run.kind is RunKind.SIMULATED,
                pool=run.pool,
            ),
            seconds=seconds.get(run.run_id, math.inf),
            after=dependent.get(run.run_id),
        )
        for run in queue.queued_runs()
    }


def _estimated() -> dict[int, float]:
    known = Estimate.objects.filter(metric=SECONDS, value__isnull=False, run__finished_at=None)
    return {run_id: value for run_id, value in known.values_list("run_id", "value") if value is not None}


def _running_ends(now: datetime) -> list[tuple[float, int, _Held]]:
    """When what runs now would end: by its estimates, never before now."""
    estimated = _estimated()
    leases: dict[int, dict[int, int]] = {}
    for job_id, device_id, memory_mib in Lease.objects.filter(released_at=None).values_list(
        "job_id", "device_id", "memory_mib"
    ):
        leases.setdefault(job_id, {})[device_id] = memory_mib
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES).select_related("node").prefetch_related("launches")
    return [(_left(job, estimated, now), job.pk, _held(job, leases.get(job.pk, {}))) for job in jobs]


def _left(job: Job, estimated: Mapping[int, float], now: datetime) -> float:
    runs = [launch.run_id for launch in job.launches.all()]
    if not all(run in estimated for run in runs):
        return math.inf
    passed = (now - (job.started_at or now)).total_seconds()
    return max(0.0, sum(estimated[run] for run in runs) - passed)


def _held(job: Job, devices: Mapping[int, int]) -> _Held:
    return _Held(
        node=job.node.name,
        devices=devices,
        host_memory_mib=job.host_memory_mib,
        cpu_threads=job.cpu_threads,
        experiment_id=job.experiment_id,
        keys=tuple(launch.run_id for launch in job.launches.all()),
    )


def _turn(times: tuple[float, float] | None, now: datetime) -> Turn:
    if times is None:
        return Turn()
    start, end = times
    return Turn(
        start_at=now + timedelta(seconds=start),
        end_at=None if math.isinf(end) else now + timedelta(seconds=end),
    )
