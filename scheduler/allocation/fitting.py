"""Where an item fits now: shares best fit, whole devices on the node that is left least fragmented."""

from collections.abc import Callable, Sequence

from scheduler.allocation.items import QueueItem
from scheduler.allocation.reserving import Reservation
from scheduler.allocation.room import DeviceRoom, NodeRoom, PoolRoom

Fit = tuple[NodeRoom, Sequence[DeviceRoom]]
May = Callable[[NodeRoom], bool]


def fit(item: QueueItem, pool: PoolRoom, may: May, beside: Reservation | None = None) -> Fit | None:
    """`may` says which nodes are considered; `beside` has what must be left to the head."""
    if item.device_memory_mib is None:
        return _whole(item, pool, may, beside)
    if item.devices == 1:
        return _one_share(item, pool, may, beside, item.device_memory_mib)
    if not pool.has_gang_of_shares(item.devices, item.device_memory_mib):
        return None
    return _shares(item, pool, may, beside)


def _whole(item: QueueItem, pool: PoolRoom, may: May, beside: Reservation | None) -> Fit | None:
    for alike in pool.with_whole(item.devices):
        fits = [
            (node, chosen)
            for node in alike
            if may(node) and (chosen := _chosen(item, node, node.whole, beside)) is not None
        ]
        if fits:
            return min(fits, key=_least_utilised)
    return None


def _least_utilised(fit: Fit) -> tuple[int, int]:
    node, devices = fit
    return sum(device.utilisation_percent for device in devices), devices[0].place


def _one_share(
    item: QueueItem, pool: PoolRoom, may: May, beside: Reservation | None, memory_mib: int
) -> Fit | None:
    for node, device in pool.with_share(memory_mib):
        if may(node) and _chosen(item, node, [device], beside):
            return node, [device]
    return None


def _shares(item: QueueItem, pool: PoolRoom, may: May, beside: Reservation | None) -> Fit | None:
    fits = []
    for node in filter(may, pool.nodes):
        offering = [device for device in node.devices if device.offers(item.device_memory_mib)]
        if chosen := _chosen(item, node, sorted(offering, key=_best_fit), beside):
            fits.append((node, chosen))
    return min(fits, key=lambda fit: sum(device.free_mib for device in fit[1]), default=None)


def _best_fit(device: DeviceRoom) -> tuple[int, int]:
    return device.free_mib, device.place


def _chosen(
    item: QueueItem, node: NodeRoom, offering: Sequence[DeviceRoom], beside: Reservation | None
) -> Sequence[DeviceRoom] | None:
    if not node.has_host_room(item):
        return None
    if beside is not None and beside.node is node:
        if not beside.leaves_host_room(item):
            return None
        offering = [device for device in offering if beside.leaves(device, item.device_memory_mib)]
    return offering[: item.devices] if len(offering) >= item.devices else None
