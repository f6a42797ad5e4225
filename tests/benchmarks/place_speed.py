"""How long place() takes on 10,000 queued runs and 1,000 devices: python -m tests.benchmarks.place_speed

Two shapes of lab (125 nodes of 8, one node of 1,000), whole devices or a mix with shares, once empty and once with
everything given away that could be.
"""

import random
import time
from dataclasses import replace

from scheduler.allocation import Decision, FreeNode, QueueItem, Running, place
from tests.traces import one_node

RUNS = 10_000
SHARES: dict[str, list[int | None]] = {"whole": [None], "with shares": [None, None, 10_000, 20_000, 40_000]}


def queue(shares: list[int | None]) -> list[QueueItem]:
    draw = random.Random(1)
    return [
        QueueItem(
            run_ids=(number,),
            experiment_id=number % 50,
            order=(float(number), number),
            devices=draw.choice([1, 1, 1, 2, 4, 8]),
            device_memory_mib=draw.choice(shares),
            limit_seconds=draw.randint(60, 9000),
            host_memory_mib=draw.choice([0, 1000]),
        )
        for number in range(RUNS)
    ]


def nodes(count: int, devices: int) -> list[FreeNode]:
    return [one_node(devices, name=f"n{number}", first_id=number * devices) for number in range(count)]


def running(decision: Decision, lab: list[FreeNode]) -> list[Running]:
    memory = {device.id: device.memory_mib for node in lab for device in node.devices}
    return [
        Running(
            node=p.node,
            device_mib={i: p.item.device_memory_mib or memory[i] for i in p.device_ids},
            host_memory_mib=p.item.host_memory_mib,
            cpu_threads=p.item.cpu_threads,
            ends_at=p.item.limit_seconds,
        )
        for p in decision.placements
    ]


def given_away(lab: list[FreeNode], jobs: list[Running]) -> list[FreeNode]:
    held: dict[int, int] = {}
    for job in jobs:
        for device_id, memory_mib in job.device_mib.items():
            held[device_id] = held.get(device_id, 0) + memory_mib
    return [
        replace(
            node, devices=tuple(replace(d, free_mib=d.free_mib - held.get(d.id, 0)) for d in node.devices)
        )
        for node in lab
    ]


def timed(runs: list[QueueItem], lab: list[FreeNode], jobs: list[Running]) -> tuple[Decision, float]:
    """The best of three, in milliseconds."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        decision = place(runs, lab, {}, jobs, 0.0)
        times.append(1000 * (time.perf_counter() - began))
    return decision, min(times)


def main() -> None:
    print("| lab | queue | placed of an empty lab, ms | nothing free, ms |\n|---|---|---|---|")
    for count, devices in ((125, 8), (1, 1000)):
        for name, shares in SHARES.items():
            lab, runs = nodes(count, devices), queue(shares)
            decision, empty = timed(runs, lab, [])
            jobs = running(decision, lab)
            started = {run_id for p in decision.placements for run_id in p.item.run_ids}
            left = [item for item in runs if item.run_ids[0] not in started]
            _, full = timed(left, given_away(lab, jobs), jobs)
            print(
                f"| {count} x {devices} | {name} | {empty:.0f} ({len(decision.placements)} placed) | {full:.0f} |"
            )


if __name__ == "__main__":
    main()
