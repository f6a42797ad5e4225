"""The queue played forward in simulated time, with the same place() that decides in earnest. Pure.

Forecasts, replays in memory and the tests of place()'s promises all play it.
"""

import heapq
import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.allocation import Decision, FreeNode, QueueItem, Running, place
from scheduler.allocation.items import Pool

LOOKED_AT = 500  # of a pool's queue at an event: what is further behind hardly starts then

Key = Hashable
Watch = Callable[[float, Decision], None]


@dataclass(frozen=True, kw_only=True)
class Play:
    """Something that will be queued. `item.run_ids` must name it alone."""

    key: Key
    item: QueueItem
    seconds: float  # that it takes; infinite where nobody knows
    queued_at: float = 0.0
    after: Key | None = None  # it is not queued before this one has ended


@dataclass(frozen=True, kw_only=True)
class UnderWay:
    """A job that runs when the play begins."""

    running: Running
    experiment_id: int
    seconds_left: float
    keys: tuple[Key, ...]  # of what is done when it ends


@dataclass(frozen=True)
class Turn:
    start_at: float
    end_at: float
    node: str
    device_ids: tuple[int, ...]


def play(
    *,
    queue: Iterable[Play],
    nodes: Sequence[FreeNode],
    under_way: Iterable[UnderWay] = (),
    windows: Mapping[int, int] | None = None,
    now: float = 0.0,
    watch: Watch | None = None,
) -> dict[Key, Turn]:
    """The turn of everything that has one; what comes after something endless has none.

    `nodes` are as they are now. `watch` is called with the time and every decision.
    """
    game = _Game(nodes=nodes, windows=dict(windows or {}), now=now, watch=watch)
    for job in under_way:
        game.carry_on(job)
    for entry in queue:
        game.expect(entry)
    return game.played()


class _Game:
    def __init__(
        self, *, nodes: Sequence[FreeNode], windows: dict[int, int], now: float, watch: Watch | None
    ) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._windows = windows
        self._clock = now
        self._watch = watch
        self._queues: dict[Pool, list[Play]] = defaultdict(list)  # sorted
        self._running: dict[int, UnderWay] = {}
        self._events: list[tuple[float, int, Play | int]] = []  # an arrival, or the number of what ends
        self._dependent: dict[Key, list[Play]] = defaultdict(list)
        self._turns: dict[Key, Turn] = {}
        self._count = 0

    def carry_on(self, job: UnderWay) -> None:
        self._count += 1
        self._running[self._count] = job
        heapq.heappush(self._events, (self._clock + job.seconds_left, self._count, self._count))

    def expect(self, entry: Play) -> None:
        if entry.after is not None:
            self._dependent[entry.after].append(entry)
            return
        self._arrive(max(entry.queued_at, self._clock), entry)

    def _arrive(self, at: float, entry: Play) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, entry))

    def played(self) -> dict[Key, Turn]:
        while self._events and not math.isinf(self._events[0][0]):
            self._clock = self._events[0][0]
            touched: set[Pool] = set()
            while self._events and self._events[0][0] == self._clock:
                touched |= self._happen(heapq.heappop(self._events)[2])
            self._start(touched)
        return self._turns

    def _happen(self, event: "Play | int") -> set[Pool]:
        """The pools in which something may start then: all, where a window has opened."""
        if isinstance(event, Play):
            insort(self._queues[event.item.pool_key], event, key=_order)
            return {event.item.pool_key}
        job = self._running.pop(event)
        self._change(job.running, 1)
        for key in job.keys:
            for entry in self._dependent.pop(key, []):
                self._arrive(max(entry.queued_at, self._clock), entry)
        if job.experiment_id in self._windows:
            self._windows[job.experiment_id] += 1
            return set(self._queues)
        node = self._nodes.get(job.running.node)
        return {node.pool_key} if node else set()

    def _start(self, pools: Iterable[Pool]) -> None:
        for pool in pools:
            front = self._front(pool)
            if not front:
                continue
            nodes = [node for node in self._nodes.values() if node.pool_key == pool]
            running = [job.running for job in self._running.values()]
            items = [entry.item for entry in front.values()]
            decision = place(items, nodes, self._windows, running, self._clock)
            if self._watch:
                self._watch(self._clock, decision)
            for placement in decision.placements:
                self._take(pool, front[placement.item.run_ids], placement.node, placement.device_ids)

    def _front(self, pool: Pool) -> dict[tuple[int, ...], Play]:
        """What place() looks at: never what a closed window holds."""
        front: dict[tuple[int, ...], Play] = {}
        for entry in self._queues[pool]:
            if self._windows.get(entry.item.experiment_id, 1) > 0:
                front[entry.item.run_ids] = entry
            if len(front) == LOOKED_AT:
                break
        return front

    def _take(self, pool: Pool, entry: Play, node: str, device_ids: tuple[int, ...]) -> None:
        item = entry.item
        memory = {device.id: device.memory_mib for device in self._nodes[node].devices}
        running = Running(
            node=node,
            device_mib={i: item.device_memory_mib or memory[i] for i in device_ids},
            host_memory_mib=item.host_memory_mib,
            cpu_threads=item.cpu_threads,
            ends_at=self._clock + item.limit_seconds,
        )
        self._change(running, -1)
        if item.experiment_id in self._windows:
            self._windows[item.experiment_id] -= 1
        self._queues[pool].remove(entry)
        self._turns[entry.key] = Turn(self._clock, self._clock + entry.seconds, node, device_ids)
        self.carry_on(
            UnderWay(
                running=running,
                experiment_id=item.experiment_id,
                seconds_left=entry.seconds,
                keys=(entry.key,),
            )
        )

    def _change(self, running: Running, sign: int) -> None:
        node = self._nodes.get(running.node)
        if node is None:  # it offers nothing any more
            return
        taken = running.device_mib
        devices = tuple(
            replace(d, free_mib=d.free_mib + sign * taken[d.id]) if d.id in taken else d for d in node.devices
        )
        self._nodes[node.name] = replace(
            node,
            devices=devices,
            host_memory_mib=node.host_memory_mib + sign * running.host_memory_mib,
            cpu_threads=node.cpu_threads + sign * running.cpu_threads,
        )


def _order(entry: Play) -> tuple[float, ...]:
    return entry.item.order
