"""What a placement is decided from, and what is decided."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Pool = tuple[bool, str]  # simulated, and the name that the lab gave it
_ENOUGH = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueItem:
    """Runs that start together as one job."""

    run_ids: tuple[int, ...]
    experiment_id: int
    order: tuple[float, ...]  # sorts the queue, the least first
    devices: int = 1
    device_memory_mib: int | None = None  # of each device; None takes whole devices
    host_memory_mib: int = 0
    cpu_threads: int = 1
    simulated: bool = False
    pool: str = ""
    limit_seconds: float = math.inf  # enforced: its job has ended by then
    avoided_node: str = ""  # passed over while another node could ever hold it

    @property
    def pool_key(self) -> Pool:
        return (self.simulated, self.pool)


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeDevice:
    id: int
    node: str
    index: int
    memory_mib: int
    free_mib: int
    utilisation_percent: int = 0
    is_offered: bool = True  # not while it is drained or in quarantine
    withheld_because: str = ""  # where it is not offered: who drained it, or what is wrong


@dataclass(frozen=True, kw_only=True)
class FreeNode:
    name: str
    simulated: bool
    host_memory_mib: int  # free now
    cpu_threads: int  # free now
    total_host_memory_mib: int
    total_cpu_threads: int
    devices: tuple[FreeDevice, ...]
    pool: str = ""

    @property
    def pool_key(self) -> Pool:
        return (self.simulated, self.pool)


def empty_node(
    name: str, *, devices: int, memory_mib: int, pool: str = "", simulated: bool = False, first_id: int = 0
) -> FreeNode:
    """An imagined node with nothing on it, and host memory and threads for everything."""
    offered = tuple(
        FreeDevice(id=first_id + index, node=name, index=index, memory_mib=memory_mib, free_mib=memory_mib)
        for index in range(devices)
    )
    return FreeNode(
        name=name,
        simulated=simulated,
        host_memory_mib=_ENOUGH,
        cpu_threads=_ENOUGH,
        total_host_memory_mib=_ENOUGH,
        total_cpu_threads=_ENOUGH,
        devices=offered,
        pool=pool,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """What an open job gives back, and when at the latest."""

    node: str
    device_mib: Mapping[int, int]  # device id -> MiB
    host_memory_mib: int = 0
    cpu_threads: int = 0
    ends_at: float  # unix seconds, by its limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    item: QueueItem
    node: str
    device_ids: tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    placements: tuple[Placement, ...]
    waiting: Mapping[int, str]  # run id -> a sentence
    reserved: Mapping[int, float] = field(default_factory=dict)  # run id -> unix seconds: starts by then
