"""The head's reservation (EASY backfill): where and by when it starts, and what may run there until then.

Lifka, The ANL/IBM SP scheduling system, 1995: only the first item that cannot start has a reservation; what is behind
it may pass when it ends before that time, or leaves what the head needs then.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from scheduler.allocation.items import QueueItem, Running
from scheduler.allocation.room import DeviceRoom, NodeRoom


class Reservation:
    def __init__(
        self,
        *,
        node: NodeRoom,
        at: float,
        item: QueueItem,
        spare_mib: dict[int, int],
        host_memory_mib: int,
        cpu_threads: int,
    ) -> None:
        self.node = node
        self.at = at
        self.item = item
        self._spare_mib = spare_mib  # of the head's devices, when it has started
        self._host_memory_mib = host_memory_mib  # left on its node then
        self._cpu_threads = cpu_threads

    def leaves_host_room(self, item: QueueItem) -> bool:
        return self._host_memory_mib >= item.host_memory_mib and self._cpu_threads >= item.cpu_threads

    def leaves(self, device: DeviceRoom, memory_mib: int | None) -> bool:
        spare_mib = self._spare_mib.get(device.id)
        return spare_mib is None or (memory_mib is not None and spare_mib >= memory_mib)

    def take(self, item: QueueItem, devices: Iterable[DeviceRoom]) -> None:
        """Something runs beside the head, beyond the time at which it starts."""
        self._host_memory_mib -= item.host_memory_mib
        self._cpu_threads -= item.cpu_threads
        for device in devices:
            if device.id in self._spare_mib:
                self._spare_mib[device.id] -= item.device_memory_mib or 0


def reserve(
    item: QueueItem, nodes: Iterable[NodeRoom], ends: Mapping[str, list[Running]]
) -> Reservation | None:
    """The earliest time at which a node holds the item; None if no end of a job makes room for it."""
    found = [made for node in nodes if (made := _earliest(item, node, ends.get(node.name, [])))]
    return min(found, key=lambda reservation: (reservation.at, reservation.node.name), default=None)


def _earliest(item: QueueItem, node: NodeRoom, ends: list[Running]) -> Reservation | None:
    if not node.could_ever_hold(item):
        return None
    then = _Then(item, node)
    for at, ending in groupby(sorted(ends, key=_end), key=_end):
        for running in ending:
            then.give_back(running)
        if then.holds_it():
            return then.reservation(at)
    return None


def _end(running: Running) -> float:
    return running.ends_at


class _Then:
    """A node as it will be when some of its jobs have ended."""

    def __init__(self, item: QueueItem, node: NodeRoom) -> None:
        self._item = item
        self._node = node
        self._host_memory_mib = node.host_memory_mib
        self._cpu_threads = node.cpu_threads
        self._devices = {device.id: device for device in node.devices if device.is_offered}
        self._free_mib = {device.id: device.free_mib for device in self._devices.values()}
        self._fitting = {
            device.id for device in self._devices.values() if device.offers(item.device_memory_mib)
        }

    def give_back(self, running: Running) -> None:
        self._host_memory_mib += running.host_memory_mib
        self._cpu_threads += running.cpu_threads
        for device_id, memory_mib in running.device_mib.items():
            if device_id in self._free_mib:
                self._free_mib[device_id] += memory_mib
                self._look_at(self._devices[device_id])

    def _look_at(self, device: DeviceRoom) -> None:
        wanted_mib = self._item.device_memory_mib or device.memory_mib
        if self._free_mib[device.id] >= wanted_mib:
            self._fitting.add(device.id)

    def holds_it(self) -> bool:
        item = self._item
        has_host_room = (
            self._host_memory_mib >= item.host_memory_mib and self._cpu_threads >= item.cpu_threads
        )
        return has_host_room and len(self._fitting) >= item.devices

    def reservation(self, at: float) -> Reservation:
        return Reservation(
            node=self._node,
            at=at,
            item=self._item,
            spare_mib={device.id: self._left_mib(device) for device in self._chosen()},
            host_memory_mib=self._host_memory_mib - self._item.host_memory_mib,
            cpu_threads=self._cpu_threads - self._item.cpu_threads,
        )

    def _chosen(self) -> Sequence[DeviceRoom]:
        """What is in use now, so that what is free may be used meanwhile."""
        fitting = (self._devices[device_id] for device_id in self._fitting)
        return sorted(fitting, key=lambda device: (device.free_mib, device.place))[: self._item.devices]

    def _left_mib(self, device: DeviceRoom) -> int:
        return self._free_mib[device.id] - (self._item.device_memory_mib or device.memory_mib)
