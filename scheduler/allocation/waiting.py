"""Why an item waits, in words; they are put together when somebody reads them, not at every tick."""

from collections.abc import Iterator, Mapping
from enum import Enum, auto

from scheduler.allocation.items import QueueItem
from scheduler.allocation.room import NodeRoom, PoolRoom

NODES_NAMED = 3


class Why(Enum):
    WINDOW = auto()
    NEVER = auto()
    LACK = auto()
    DELAYS = auto()


class Wait:
    __slots__ = ("head", "item", "room", "why")

    def __init__(
        self, item: QueueItem, why: Why, *, room: PoolRoom | None = None, head: QueueItem | None = None
    ) -> None:
        self.item = item
        self.why = why
        self.room = room
        self.head = head

    def sentence(self) -> str:
        nodes = self.room.nodes if self.room else []
        if self.why is Why.WINDOW:
            return "waits for another run of its experiment to end (max_parallel)"
        if self.why is Why.NEVER:
            return _never(self.item, nodes)
        lack = (
            f"needs {_needs(self.item)}; free now: {_free_now(self.item, nodes)}{_withheld(self.item, nodes)}"
        )
        if self.why is Why.DELAYS and self.head:
            return f"waits behind run {self.head.run_ids[0]}, which it would delay: it {lack}"
        return lack


class Waiting(Mapping[int, str]):
    def __init__(self, waits: Mapping[int, Wait]) -> None:
        self._waits = waits

    def __getitem__(self, run_id: int) -> str:
        return self._waits[run_id].sentence()

    def __iter__(self) -> Iterator[int]:
        return iter(self._waits)

    def __len__(self) -> int:
        return len(self._waits)


def _never(item: QueueItem, nodes: list[NodeRoom]) -> str:
    drained = [node.name for node in nodes if node.could_ever_hold(item, drained_too=True)]
    if drained:
        names = ", ".join(drained[:NODES_NAMED])
        return f"needs {_needs(item)}; devices of node {names} that could hold it are drained{_withheld(item, nodes)}"
    together = sum(len(node.devices) for node in nodes)
    if item.devices > 1 and together >= item.devices:
        largest = max(len(node.devices) for node in nodes)
        return (
            f"no node could ever hold it: it needs {_needs(item)} on one node, and the largest has {largest}; "
            "a job is not spread over nodes"
        )
    pool = f" in pool {item.pool}" if item.pool else ""
    return f"no node could ever hold it: it needs {_needs(item)}{pool}"


def _free_now(item: QueueItem, nodes: list[NodeRoom]) -> str:
    able = [node for node in nodes if node.could_ever_hold(item)]
    told = [f"node {node.name} has {_offered(item, node)}" for node in able[:NODES_NAMED]]
    more = len(able) - NODES_NAMED
    return ", ".join(told + ([f"and {more} more nodes too little"] if more > 0 else []))


def _withheld(item: QueueItem, nodes: list[NodeRoom]) -> str:
    """Whose devices would be there for it, were they not drained; by whom and why."""
    told = [text for node in nodes if node.could_ever_hold(item, drained_too=True) for text in _drained(node)]
    more = [f"and {len(told) - NODES_NAMED} more"] if len(told) > NODES_NAMED else []
    return f"; not offered: {', '.join(told[:NODES_NAMED] + more)}" if told else ""


def _drained(node: NodeRoom) -> list[str]:
    """The node as a whole, or each of its devices."""
    withheld = sorted(
        (device.index, device.withheld_because) for device in node.devices if not device.is_offered
    )
    because = {reason for _, reason in withheld}
    if len(withheld) == len(node.devices) and len(because) == 1:
        return [_with_reason(node.name, because.pop())]
    return [_with_reason(f"{node.name}:{index}", reason) for index, reason in withheld]


def _with_reason(name: str, reason: str) -> str:
    return f"{name} ({reason.rstrip('.')})" if reason else name


def _offered(item: QueueItem, node: NodeRoom) -> str:
    count = sum(device.offers(item.device_memory_mib) for device in node.devices)
    if count < item.devices or node.has_host_room(item):
        return f"{count}"
    return f"{count} with {node.host_memory_mib:,} MiB of host memory and {node.cpu_threads} CPU threads"


def _needs(item: QueueItem) -> str:
    memory = f" with {item.device_memory_mib:,} MiB free" if item.device_memory_mib else ""
    kind = "simulated device" if item.simulated else "device"
    host = f", {item.host_memory_mib:,} MiB of host memory" if item.host_memory_mib else ""
    threads = f", {item.cpu_threads} CPU threads" if item.cpu_threads > 1 else ""
    return f"{item.devices} {kind}{'s' if item.devices > 1 else ''}{memory}{host}{threads}"
