"""A workload played with place() alone: no database, no processes, and time that only the events move."""

import math
from collections.abc import Sequence

from experiments.states import AGEING
from labmgr.replay.report import RecordedLaunch
from labmgr.replay.workload import DEVICE_MEMORY_MIB, ReplayJob
from scheduler import playing
from scheduler.allocation import QueueItem, empty_node
from scheduler.playing import Play


def play(jobs: Sequence[ReplayJob], *, devices: int) -> list[RecordedLaunch]:
    """When each job would start and end; nothing but a device is ever waited for."""
    pools = sorted({job.pool for job in jobs})
    nodes = [
        empty_node(
            f"node{number}",
            devices=devices,
            memory_mib=DEVICE_MEMORY_MIB,
            pool=pool,
            simulated=True,
            first_id=number * devices,
        )
        for number, pool in enumerate(pools)
    ]
    turns = playing.play(queue=[_play(job) for job in jobs], nodes=nodes)
    by_index = {job.index: job for job in jobs}
    return [
        RecordedLaunch(
            index=index,
            started=turn.start_at,
            ended=turn.end_at,
            succeeded=True,
            pool=by_index[index].pool,
            devices=turn.device_ids,
            memory_mib=by_index[index].memory_mib or DEVICE_MEMORY_MIB,
        )
        for index, turn in turns.items()
        if isinstance(index, int)
    ]


def _play(job: ReplayJob) -> Play:
    item = QueueItem(
        run_ids=(job.index,),
        experiment_id=0,
        order=(job.submit_seconds - job.priority * AGEING.total_seconds(), job.index),
        devices=job.devices,
        device_memory_mib=job.memory_mib,
        simulated=True,
        pool=job.pool,
        limit_seconds=max(1, math.ceil(job.duration_seconds)),
    )
    return Play(key=job.index, item=item, seconds=job.duration_seconds, queued_at=job.submit_seconds)
