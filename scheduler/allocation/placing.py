"""place(): one pass over the queue.

Items are taken in their order; a gang is placed whole on one node or not at all. The first of a pool that does not fit is its
head and gets a reservation; what is behind it may pass only if the head still starts by then. What is held by its window, or
fits no node, is never head. What tests hold it to is in design section 4, (a) to (d).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
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
    pools = _passes(nodes, _Ends(running), now)
    placements: list[Placement] = []
    waits: dict[int, Wait] = {}
    for item in sorted(queue, key=attrgetter("order")):
        if left.get(item.experiment_id, 1) < 1:
            outcome: Placement | Wait = Wait(item, Why.WINDOW)
        else:
            outcome = pools.setdefault(item.pool_key, _Pass([], _Ends(), now)).offer(item)
        if isinstance(outcome, Wait):
            waits.update(dict.fromkeys(item.run_ids, outcome))
            continue
        placements.append(outcome)
        if item.experiment_id in left:
            left[item.experiment_id] -= 1
    return Decision(tuple(placements), Waiting(waits), _Reserved(pools.values()))


def could_hold(item: QueueItem, nodes: Iterable[FreeNode]) -> frozenset[str]:
    """The nodes of its pool that could ever hold an item, whatever they hold now."""
    return PoolRoom(node for node in nodes if node.pool_key == item.pool_key).holding(item)


def _passes(nodes: Sequence[FreeNode], ends: "_Ends", now: float) -> dict[Pool, "_Pass"]:
    keys = dict.fromkeys(node.pool_key for node in nodes)
    return {key: _Pass([node for node in nodes if node.pool_key == key], ends, now) for key in keys}


class _Ends:
    """The open jobs by node, once somebody asks: reading them may cost more than the rest of the pass."""

    def __init__(self, running: Iterable[Running] = ()) -> None:
        self._running = running

    def of(self, node: str) -> list[Running]:
        return self._by_node.get(node, [])

    @cached_property
    def _by_node(self) -> dict[str, list[Running]]:
        found: dict[str, list[Running]] = {}
        for job in self._running:
            found.setdefault(job.node, []).append(job)
        return found


class _Pass:
    """A pool during one pass: its room shrinks only, so what failed once need not be tried again."""

    def __init__(self, nodes: Sequence[FreeNode], ends: _Ends, now: float) -> None:
        self._room = PoolRoom(nodes)
        self._ends = ends
        self._now = now
        self._head: Reservation | None = None
        # Of these the first that can have one has a reservation.
        self._lackers: list[tuple[QueueItem, May]] = []
        self._before_head: dict[str, list[Running]] = {}  # placed in this pass, by node
        self._holders: dict[Shape, frozenset[str]] = {}
        self._lacking: set[Shape] = set()
        self._delaying: dict[Shape, float] = {}  # the shortest limit that would have delayed the head

    @property
    def head(self) -> Reservation | None:
        """Made when something would pass it, or somebody asks; until then nothing has changed since it did not fit."""
        while not self._head and self._lackers:
            item, may = self._lackers.pop(0)
            nodes = list(filter(may, self._room.nodes))
            self._head = reserve(item, nodes, {node.name: self._ends_on(node.name) for node in nodes})
        return self._head

    def offer(self, item: QueueItem) -> Placement | Wait:
        shape = _shape(item)
        holders = self._holding(shape, item)
        if not holders:
            return Wait(item, Why.NEVER, room=self._room)
        if shape in self._lacking:
            return self._lack(item)
        if shape in self._delaying and item.limit_seconds >= self._delaying[shape]:
            return self._delay(item)
        found = fit(item, self._room, may := _among(holders))
        if not found:
            self._lacking.add(shape)
            self._lackers.append((item, may))
            return self._lack(item)
        if head := self._beside(item):
            found = fit(item, self._room, may, head)
        if found:
            return self._take(item, found)
        self._delaying[shape] = item.limit_seconds
        return self._delay(item)

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
            self._before_head.setdefault(node.name, []).append(_will_run(item, found, self._now))
        return Placement(item=item, node=node.name, device_ids=tuple(device.id for device in devices))

    def _ends_on(self, node: str) -> list[Running]:
        return [*self._ends.of(node), *self._before_head.get(node, ())]

    def _lack(self, item: QueueItem) -> Wait:
        return Wait(item, Why.LACK, room=self._room)

    def _delay(self, item: QueueItem) -> Wait:
        return Wait(item, Why.DELAYS, room=self._room, head=self.head.item if self.head else None)


class _Reserved(Mapping[int, float]):
    """By when the heads start, made for those who ask."""

    def __init__(self, passes: Iterable[_Pass]) -> None:
        self._passes = passes

    def __getitem__(self, run_id: int) -> float:
        return self._at[run_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    @cached_property
    def _at(self) -> dict[int, float]:
        heads = [each.head for each in self._passes if each.head]
        return {run_id: head.at for head in heads for run_id in head.item.run_ids}


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
