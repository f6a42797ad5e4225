"""place(queue, free): which waiting items start now, on which devices, and why the others wait.

Pure: it knows no database and no clock. Gangs are placed whole on one node or not at all; the order is priority,
then first come first served, and an item that cannot start holds back those behind it in its pool, so that it is
not starved. An item that no node could ever hold does not hold back anyone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class QueueItem:
    """Runs that start together as one job."""

    run_ids: tuple[int, ...]
    experiment_id: int
    order: tuple[float, ...]  # sorts the queue: minus the priority, then the arrival
    devices: int = 1
    device_memory_mib: int | None = None  # of each device; None takes whole devices
    host_memory_mib: int = 0
    cpu_threads: int = 1
    simulated: bool = False
    avoided_node: str = ""
    pool: str = ""


@dataclass(frozen=True, kw_only=True)
class FreeDevice:
    id: int
    node: str
    index: int
    memory_mib: int
    free_mib: int

    def offers(self, memory_mib: int | None) -> bool:
        return self.free_mib == self.memory_mib if memory_mib is None else self.free_mib >= memory_mib


@dataclass(frozen=True, kw_only=True)
class FreeNode:
    name: str
    simulated: bool
    pool: str = ""
    host_memory_mib: int  # free now
    cpu_threads: int  # free now
    total_host_memory_mib: int
    total_cpu_threads: int
    devices: tuple[FreeDevice, ...]


@dataclass(frozen=True, kw_only=True)
class Placement:
    item: QueueItem
    node: str
    device_ids: tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    placements: tuple[Placement, ...]
    waiting: Mapping[int, str]  # run id -> a sentence


def place(
    queue: Iterable[QueueItem], nodes: Sequence[FreeNode], windows: Mapping[int, int] | None = None
) -> Decision:
    """Decide for the whole queue. `windows` has how many more jobs each experiment may have open."""
    left = dict(windows or {})
    free = {node.name: node for node in nodes}
    blocked: dict[tuple[bool, str], QueueItem] = {}
    placements: list[Placement] = []
    waiting: dict[int, str] = {}
    for item in sorted(queue, key=lambda item: item.order):
        reason = _reason_before_looking(item, free, left, blocked)
        placement = None if reason else _fit(item, free)
        if placement is None:
            waiting.update(dict.fromkeys(item.run_ids, reason or _lack(item, free)))
            if not reason:
                blocked[item.simulated, item.pool] = item
            continue
        placements.append(placement)
        free[placement.node] = _taken(free[placement.node], placement)
        if item.experiment_id in left:
            left[item.experiment_id] -= 1
    return Decision(tuple(placements), waiting)


def _reason_before_looking(
    item: QueueItem,
    free: Mapping[str, FreeNode],
    left: Mapping[int, int],
    blocked: Mapping[tuple[bool, str], QueueItem],
) -> str:
    if left.get(item.experiment_id, 1) < 1:
        return "waits for another run of its experiment to end (max_parallel)"
    if not any(_could_ever_hold(node, item) for node in free.values()):
        return f"no node could ever hold it: it needs {_needs(item)}"
    if (item.simulated, item.pool) in blocked:
        return (
            f"waits behind run {blocked[item.simulated, item.pool].run_ids[0]}, which is ahead in the queue"
        )
    return ""


def _fit(item: QueueItem, free: Mapping[str, FreeNode]) -> Placement | None:
    """The node that is left least fragmented; one that lost this run before only if there is no other."""
    fitting = [node for node in free.values() if _holds(node, item)]
    if not fitting:
        return None
    best = min(fitting, key=lambda node: (node.name == item.avoided_node, _fragments(node, item), node.name))
    return Placement(item=item, node=best.name, device_ids=tuple(d.id for d in _chosen(best, item)))


def _chosen(node: FreeNode, item: QueueItem) -> list[FreeDevice]:
    """Shares: best fit. Whole devices: lowest index first."""
    offering = [device for device in node.devices if device.offers(item.device_memory_mib)]
    return sorted(offering, key=lambda device: (device.free_mib, device.index))[: item.devices]


def _fragments(node: FreeNode, item: QueueItem) -> int:
    offering = sum(device.offers(item.device_memory_mib) for device in node.devices)
    return offering - item.devices


def _holds(node: FreeNode, item: QueueItem) -> bool:
    return (
        node.simulated == item.simulated
        and node.pool == item.pool
        and node.host_memory_mib >= item.host_memory_mib
        and node.cpu_threads >= item.cpu_threads
        and _fragments(node, item) >= 0
    )


def _could_ever_hold(node: FreeNode, item: QueueItem) -> bool:
    emptied = replace(
        node,
        host_memory_mib=node.total_host_memory_mib,
        cpu_threads=node.total_cpu_threads,
        devices=tuple(replace(device, free_mib=device.memory_mib) for device in node.devices),
    )
    return _holds(emptied, item)


def _taken(node: FreeNode, placement: Placement) -> FreeNode:
    item = placement.item
    devices = tuple(
        replace(device, free_mib=device.free_mib - (item.device_memory_mib or device.memory_mib))
        if device.id in placement.device_ids
        else device
        for device in node.devices
    )
    return replace(
        node,
        devices=devices,
        host_memory_mib=node.host_memory_mib - item.host_memory_mib,
        cpu_threads=node.cpu_threads - item.cpu_threads,
    )


def _lack(item: QueueItem, free: Mapping[str, FreeNode]) -> str:
    offers = [
        f"node {node.name} has {sum(d.offers(item.device_memory_mib) for d in node.devices)}"
        for node in free.values()
        if _could_ever_hold(node, item)
    ]
    return f"needs {_needs(item)}; free now: {', '.join(offers)}"


def _needs(item: QueueItem) -> str:
    memory = f" with {item.device_memory_mib:,} MiB free" if item.device_memory_mib else ""
    kind = "simulated device" if item.simulated else "device"
    host = f", {item.host_memory_mib:,} MiB of host memory" if item.host_memory_mib else ""
    threads = f", {item.cpu_threads} CPU threads" if item.cpu_threads > 1 else ""
    return f"{item.devices} {kind}{'s' if item.devices > 1 else ''}{memory}{host}{threads}"
