"""place(): one pass over the queue.

Items are taken in their order; a gang is placed whole on one node or not at all. The first of a pool that does not fit is its
head and gets a reservation; what is behind it may pass only if the head still starts by then. What is held by its window, or
fits no node, is never head. What tests hold it to is in design section 4, (a) to (d).
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from scheduler.allocation.fitting import Fit, May, fit
from scheduler.allocation.items import Decision, FreeNode, Placement, Pool, QueueItem, Running
from scheduler.allocation.reserving import Reservation, reserve
from scheduler.allocation.room import NodeRoom, PoolRoom
from scheduler.allocation.waiting import Wait, Waiting, Why

Shape = tuple[object, ...]


def place(
    queue: Iterable[QueueItem],
    nodes: Sequence[FreeNode],
    windows: Mapping[int, int] | None = None,
    running: Iterable[Running] = (),
    now: float = 0.0,
) -> Decision:
    """Decide for the whole queue.

    `windows` has how many more jobs each experiment may have open; `running` has the open jobs, by whose limits
    reservations go; `now` is in unix seconds, as their ends are.
    """
    left = dict(windows or {})
    pools = _passes(nodes, running, now)
    placements: list[Placement] = []
    waits: dict[int, Wait] = {}
    for item in sorted(queue, key=attrgetter("order")):
        if left.get(item.experiment_id, 1) < 1:
            outcome: Placement | Wait = Wait(item, Why.WINDOW)
        else:
            outcome = pools.setdefault(item.pool_key, _Pass([], now)).offer(item)
        if isinstance(outcome, Wait):
            waits.update(dict.fromkeys(item.run_ids, outcome))
            continue
        placements.append(outcome)
        if item.experiment_id in left:
            left[item.experiment_id] -= 1
    reserved = {run_id: p.head.at for p in pools.values() if p.head for run_id in p.head.item.run_ids}
    return Decision(tuple(placements), Waiting(waits), reserved)


def could_hold(item: QueueItem, nodes: Iterable[FreeNode]) -> frozenset[str]:
    """The nodes of its pool that could ever hold an item, whatever they hold now."""
    return PoolRoom(node for node in nodes if node.pool_key == item.pool_key).holding(item)


def _passes(nodes: Sequence[FreeNode], running: Iterable[Running], now: float) -> dict[Pool, "_Pass"]:
    keys = dict.fromkeys(node.pool_key for node in nodes)
    passes = {key: _Pass([node for node in nodes if node.pool_key == key], now) for key in keys}
    by_node = {node.name: passes[node.pool_key] for node in nodes}
    for job in running:
        if job.node in by_node:
            by_node[job.node].ends.setdefault(job.node, []).append(job)
    return passes


class _Pass:
    """A pool during one pass: its room shrinks only, so what failed once need not be tried again."""

    def __init__(self, nodes: Sequence[FreeNode], now: float) -> None:
        self.ends: dict[str, list[Running]] = {}
        self.head: Reservation | None = None
        self._room = PoolRoom(nodes)
        self._now = now
        self._holders: dict[Shape, frozenset[str]] = {}
        self._lacking: set[Shape] = set()
        self._delaying: dict[Shape, float] = {}  # the shortest limit that would have delayed the head

    def offer(self, item: QueueItem) -> Placement | Wait:
        shape = _shape(item)
        holders = self._holding(shape, item)
        if not holders:
            return Wait(item, Why.NEVER, room=self._room)
        if shape in self._lacking:
            return self._lack(item)
        if shape in self._delaying and item.limit_seconds >= self._delaying[shape]:
            return self._delay(item)
        found = fit(item, self._room, may := _among(holders), self._beside(item))
        if found:
            return self._take(item, found)
        if self.head and fit(item, self._room, may):
            self._delaying[shape] = item.limit_seconds
            return self._delay(item)
        self._lacking.add(shape)
        if not self.head:
            self.head = reserve(item, filter(may, self._room.nodes), self.ends)
        return self._lack(item)

    def _holding(self, shape: Shape, item: QueueItem) -> frozenset[str]:
        """The nodes that could ever hold it, without the one to avoid if there are others."""
        if shape not in self._holders:
            names = self._room.holding(item)
            others = names - {item.avoided_node} if item.avoided_node else names
            self._holders[shape] = others or names
        return self._holders[shape]

    def _beside(self, item: QueueItem) -> Reservation | None:
        ends_first = self.head is None or self._now + item.limit_seconds <= self.head.at
        return None if ends_first else self.head

    def _take(self, item: QueueItem, found: Fit) -> Placement:
        node, devices = found
        if (head := self._beside(item)) and head.node is node:
            head.take(item, devices)
        self._room.take(node, devices, item)
        if not self.head:
            self.ends.setdefault(node.name, []).append(_will_run(item, found, self._now))
        return Placement(item=item, node=node.name, device_ids=tuple(device.id for device in devices))

    def _lack(self, item: QueueItem) -> Wait:
        return Wait(item, Why.LACK, room=self._room)

    def _delay(self, item: QueueItem) -> Wait:
        return Wait(item, Why.DELAYS, room=self._room, head=self.head.item if self.head else None)


def _shape(item: QueueItem) -> Shape:
    return item.devices, item.device_memory_mib, item.host_memory_mib, item.cpu_threads, item.avoided_node


def _among(names: frozenset[str]) -> May:
    def may(node: NodeRoom) -> bool:
        return node.name in names

    return may


def _will_run(item: QueueItem, found: Fit, now: float) -> Running:
    node, devices = found
    return Running(
        node=node.name,
        device_mib={device.id: item.device_memory_mib or device.memory_mib for device in devices},
        host_memory_mib=item.host_memory_mib,
        cpu_threads=item.cpu_threads,
        ends_at=now + item.limit_seconds,
    )
