"""Named generators of workloads, each the same for the same seed."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labmgr.replay.workload import area_bound
from scheduler.allocation import FreeNode, QueueItem, empty_node
from scheduler.playing import Play

DEVICE_MIB = 81920
Draw = Callable[[random.Random], float]


@dataclass(frozen=True, kw_only=True)
class Job:
    submit_seconds: float
    seconds: float
    devices: int
    limit_seconds: float


DURATIONS: dict[str, Draw] = {
    "uniform": lambda random: random.uniform(60, 600),
    "pareto": lambda random: min(
        60 * random.paretovariate(1.1), 20_000
    ),  # infinite variance, but for the cap
    "lognormal": lambda random: min(random.lognormvariate(5, 1.5), 20_000),
    "two kinds": lambda random: random.choice([30, 30, 30, 30, 3600]),
}


def trace(
    name: str, *, seed: int, jobs: int, gangs: Sequence[int], mean_gap_seconds: float, honest: bool = False
) -> list[Job]:
    """Poisson arrivals; limits are 1 to 3 times what a job takes, unless they are `honest`."""
    draw = random.Random(f"{name} {seed}")
    made, clock = [], 0.0
    for _ in range(jobs):
        clock += draw.expovariate(1 / mean_gap_seconds) if mean_gap_seconds else 0.0
        seconds = DURATIONS[name](draw)
        limit = seconds if honest else seconds * draw.uniform(1, 3)
        made.append(
            Job(submit_seconds=clock, seconds=seconds, devices=draw.choice(list(gangs)), limit_seconds=limit)
        )
    return made


def plays(jobs: Sequence[Job]) -> list[Play]:
    return [
        Play(
            key=number,
            item=QueueItem(
                run_ids=(number,),
                experiment_id=1,
                order=(job.submit_seconds, number),
                devices=job.devices,
                limit_seconds=job.limit_seconds,
            ),
            seconds=job.seconds,
            queued_at=job.submit_seconds,
        )
        for number, job in enumerate(jobs)
    ]


def one_node(devices: int, *, name: str = "a", first_id: int = 0) -> FreeNode:
    return empty_node(name, devices=devices, memory_mib=DEVICE_MIB, first_id=first_id)


def bound_of(jobs: Sequence[Job], *, devices: int) -> float:
    work = [(job.submit_seconds, job.seconds * job.devices) for job in jobs]
    return area_bound(work, devices=devices)


def greedy_makespan(jobs: Sequence[Job], *, devices: int, longest_first: bool) -> float:
    """First come first served without passing, or a list schedule that tries the longest first."""
    waiting: list[Job] = []
    arrivals = sorted(jobs, key=lambda job: job.submit_seconds)
    ends: list[tuple[float, int]] = []
    clock, free, last = 0.0, devices, 0.0
    while arrivals or waiting:
        while arrivals and arrivals[0].submit_seconds <= clock:
            waiting.append(arrivals.pop(0))
        if longest_first:
            waiting.sort(key=lambda job: -job.seconds)
        for job in list(waiting):
            if job.devices <= free:
                free -= job.devices
                ends.append((clock + job.seconds, job.devices))
                last = max(last, clock + job.seconds)
                waiting.remove(job)
            elif not longest_first:
                break
        upcoming = min([end for end, _ in ends], default=math.inf)
        clock = min(upcoming, arrivals[0].submit_seconds if arrivals else math.inf)
        free += sum(count for end, count in ends if end <= clock)
        ends = [(end, count) for end, count in ends if end > clock]
    return last
