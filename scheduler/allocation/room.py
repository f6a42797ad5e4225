"""The room that is left while a decision is made: of devices, of nodes, and of the pools that they are in."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence

from scheduler.allocation.items import FreeDevice, FreeNode, QueueItem


class DeviceRoom:
    __slots__ = (
        "free_mib",
        "id",
        "index",
        "is_offered",
        "memory_mib",
        "place",
        "utilisation_percent",
        "withheld_because",
    )

    def __init__(self, device: FreeDevice, place: int) -> None:
        self.id = device.id
        self.index = device.index
        self.memory_mib = device.memory_mib
        self.free_mib = device.free_mib
        self.utilisation_percent = device.utilisation_percent
        self.is_offered = device.is_offered
        self.withheld_because = device.withheld_because
        self.place = place  # in the pool, so that equals are taken in a fixed order

    def offers(self, memory_mib: int | None) -> bool:
        if not self.is_offered:
            return False
        return self.free_mib == self.memory_mib if memory_mib is None else self.free_mib >= memory_mib


class NodeRoom:
    def __init__(self, node: FreeNode, devices: Sequence[DeviceRoom]) -> None:
        self.node = node
        self.name = node.name
        self.host_memory_mib = node.host_memory_mib
        self.cpu_threads = node.cpu_threads
        self.devices = devices
        self.whole = [device for device in devices if device.offers(None)]
        self._memories_mib = sorted((d.memory_mib for d in devices if d.is_offered), reverse=True)
        self._all_memories_mib = sorted((d.memory_mib for d in devices), reverse=True)

    @property
    def kind(self) -> tuple[object, ...]:
        """Nodes of one kind could ever hold the same items."""
        node = self.node
        return tuple(self._memories_mib), node.total_host_memory_mib, node.total_cpu_threads

    def has_host_room(self, item: QueueItem) -> bool:
        return self.host_memory_mib >= item.host_memory_mib and self.cpu_threads >= item.cpu_threads

    def could_ever_hold(self, item: QueueItem, *, drained_too: bool = False) -> bool:
        memories_mib = self._all_memories_mib if drained_too else self._memories_mib
        return (
            len(memories_mib) >= item.devices
            and memories_mib[item.devices - 1] >= (item.device_memory_mib or 0)
            and self.node.total_host_memory_mib >= item.host_memory_mib
            and self.node.total_cpu_threads >= item.cpu_threads
        )


class PoolRoom:
    """The nodes of one pool, found by what they have free."""

    def __init__(self, nodes: Iterable[FreeNode]) -> None:
        self.nodes: list[NodeRoom] = []
        self._by_whole: dict[int, dict[str, NodeRoom]] = {}
        self._by_free: list[tuple[int, int]] = []  # free MiB and place of every device that offers some
        self._owners: list[tuple[NodeRoom, DeviceRoom]] = []  # by place
        for node in sorted(nodes, key=lambda node: node.name):
            self._add(node)
        self._by_free.sort()
        self._names = frozenset(node.name for node in self.nodes)
        self._kinds: dict[tuple[object, ...], list[NodeRoom]] = {}
        for room in self.nodes:
            self._kinds.setdefault(room.kind, []).append(room)
        self._largest_gang_mib: dict[int, int] = {}  # number of devices -> the largest share on all of them

    def _add(self, node: FreeNode) -> None:
        first = len(self._owners)
        devices = sorted(node.devices, key=lambda device: (device.utilisation_percent, device.index))
        room = NodeRoom(node, [DeviceRoom(device, first + i) for i, device in enumerate(devices)])
        self.nodes.append(room)
        self._owners += [(room, device) for device in room.devices]
        self._by_free += [(d.free_mib, d.place) for d in room.devices if d.is_offered and d.free_mib > 0]
        self._by_whole.setdefault(len(room.whole), {})[room.name] = room

    def holding(self, item: QueueItem) -> frozenset[str]:
        """The nodes that could ever hold an item."""
        holding = [alike for alike in self._kinds.values() if alike[0].could_ever_hold(item)]
        if len(holding) == len(self._kinds):
            return self._names
        return frozenset(node.name for alike in holding for node in alike)

    def has_gang_of_shares(self, count: int, memory_mib: int) -> bool:
        """Whether some node has so many devices with so much free."""
        if count not in self._largest_gang_mib:
            gangs = (sorted(d.free_mib if d.is_offered else 0 for d in n.devices) for n in self.nodes)
            self._largest_gang_mib[count] = max((g[-count] for g in gangs if len(g) >= count), default=0)
        return self._largest_gang_mib[count] >= memory_mib

    def with_whole(self, count: int) -> Iterator[list[NodeRoom]]:
        """Nodes with at least so many whole devices free, grouped by how many they have, the fewest first."""
        for whole in sorted(self._by_whole):
            if whole >= count and self._by_whole[whole]:
                yield list(self._by_whole[whole].values())

    def with_share(self, memory_mib: int) -> Iterator[tuple[NodeRoom, DeviceRoom]]:
        """Devices with so much free, the one with the least first."""
        for _, place in self._by_free[bisect_left(self._by_free, (memory_mib, -1)) :]:
            yield self._owners[place]

    def take(self, node: NodeRoom, devices: Sequence[DeviceRoom], item: QueueItem) -> None:
        self._largest_gang_mib.clear()
        node.host_memory_mib -= item.host_memory_mib
        node.cpu_threads -= item.cpu_threads
        del self._by_whole[len(node.whole)][node.name]
        taken = {device.id for device in devices}
        node.whole = [device for device in node.whole if device.id not in taken]
        self._by_whole.setdefault(len(node.whole), {})[node.name] = node
        for device in devices:
            self._take_share(device, item.device_memory_mib or device.memory_mib)

    def _take_share(self, device: DeviceRoom, memory_mib: int) -> None:
        del self._by_free[bisect_left(self._by_free, (device.free_mib, device.place))]
        device.free_mib -= memory_mib
        if device.free_mib > 0:
            insort(self._by_free, (device.free_mib, device.place))
