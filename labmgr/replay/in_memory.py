"""A workload played with place() alone: no database, no processes, and time that only the events move."""

import bisect
import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from labmgr.replay.report import RecordedLaunch
from labmgr.replay.workload import DEVICE_MEMORY_MIB, ReplayJob
from scheduler.allocation import FreeDevice, FreeNode, QueueItem, place

LOOKED_AT = 500  # of the queue at an event, as by a tick


def play(jobs: Sequence[ReplayJob], *, devices: int) -> list[RecordedLaunch]:
    """When each job would start and end, pool by pool; nothing but a device is ever waited for."""
    pools: dict[str, list[ReplayJob]] = defaultdict(list)
    for job in jobs:
        pools[job.pool].append(job)
    firsts = range(0, devices * len(pools), devices)
    return [
        launch
        for first, (pool, own) in zip(firsts, sorted(pools.items()), strict=True)
        for launch in _Pool(pool, own, range(first, first + devices)).play()
    ]


class _Pool:
    def __init__(self, name: str, jobs: Sequence[ReplayJob], device_ids: range) -> None:
        self._jobs = {job.index: job for job in jobs}
        self._arriving = sorted(jobs, key=lambda job: job.submit_seconds, reverse=True)
        self._waiting: list[tuple[tuple[float, ...], QueueItem]] = []
        self._ends: list[tuple[float, int, tuple[int, ...], int]] = []
        self._node = _empty_node(name, device_ids)

    def play(self) -> Iterator[RecordedLaunch]:
        while self._arriving or self._ends:
            clock = min(
                self._arriving[-1].submit_seconds if self._arriving else float("inf"),
                self._ends[0][0] if self._ends else float("inf"),
            )
            self._take_what_ended(clock)
            self._take_what_arrived(clock)
            yield from self._start(clock)

    def _take_what_ended(self, clock: float) -> None:
        while self._ends and self._ends[0][0] <= clock:
            _, _, device_ids, memory_mib = heapq.heappop(self._ends)
            self._change(device_ids, memory_mib)

    def _take_what_arrived(self, clock: float) -> None:
        while self._arriving and self._arriving[-1].submit_seconds <= clock:
            item = _item(self._arriving.pop())
            bisect.insort(self._waiting, (item.order, item), key=lambda entry: entry[0])

    def _start(self, clock: float) -> Iterator[RecordedLaunch]:
        if not any(device.free_mib for device in self._node.devices):
            return
        front = [item for _, item in self._waiting[:LOOKED_AT]]
        placed = {placement.item.run_ids[0]: placement for placement in place(front, [self._node]).placements}
        if not placed:
            return
        self._waiting = [entry for entry in self._waiting if entry[1].run_ids[0] not in placed]
        for index, placement in placed.items():
            job = self._jobs[index]
            memory_mib, ended = job.memory_mib or DEVICE_MEMORY_MIB, clock + job.duration_seconds
            self._change(placement.device_ids, -memory_mib)
            heapq.heappush(self._ends, (ended, index, placement.device_ids, memory_mib))
            yield RecordedLaunch(
                index=index,
                started=clock,
                ended=ended,
                succeeded=True,
                pool=job.pool,
                devices=placement.device_ids,
                memory_mib=memory_mib,
            )

    def _change(self, device_ids: Sequence[int], memory_mib: int) -> None:
        held = set(device_ids)
        devices = tuple(
            replace(device, free_mib=device.free_mib + memory_mib) if device.id in held else device
            for device in self._node.devices
        )
        self._node = replace(self._node, devices=devices)


def _empty_node(pool: str, device_ids: range) -> FreeNode:
    devices = tuple(
        FreeDevice(
            id=device_id,
            node=pool,
            index=index,
            memory_mib=DEVICE_MEMORY_MIB,
            free_mib=DEVICE_MEMORY_MIB,
        )
        for index, device_id in enumerate(device_ids)
    )
    return FreeNode(
        name=pool,
        simulated=True,
        pool=pool,
        host_memory_mib=0,
        cpu_threads=0,
        total_host_memory_mib=0,
        total_cpu_threads=0,
        devices=devices,
    )


def _item(job: ReplayJob) -> QueueItem:
    return QueueItem(
        run_ids=(job.index,),
        experiment_id=0,
        order=(-job.priority, job.submit_seconds, job.index),
        devices=job.devices,
        device_memory_mib=job.memory_mib,
        cpu_threads=0,
        simulated=True,
        pool=job.pool,
    )
