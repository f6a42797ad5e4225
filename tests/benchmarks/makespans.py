"""The last start and the makespan of named traces over the area bound, beside FCFS and longest-first.

    python -m tests.benchmarks.makespans

On 64 devices in one node with gangs up to 4, where promise (c) bounds the last start, and on 8 devices with gangs up to
8, where nothing does: a gang of all devices waits for the longest job of a heavy tail.
"""

from collections.abc import Sequence

from scheduler.playing import play
from tests.traces import DURATIONS, bound_of, greedy_makespan, one_node, plays, trace

SEEDS = (1, 2, 3, 4, 5)


def row(name: str, *, devices: int, gangs: Sequence[int], jobs: int, gap: float) -> list[str]:
    worst = [0.0, 0.0, 0.0, 0.0]
    for seed in SEEDS:
        made = trace(name, seed=seed, jobs=jobs, gangs=gangs, mean_gap_seconds=gap)
        turns = play(queue=plays(made), nodes=[one_node(devices)]).values()
        bound = bound_of(made, devices=devices)
        found = (
            max(turn.start_at for turn in turns),
            max(turn.end_at for turn in turns),
            greedy_makespan(made, devices=devices, longest_first=False),
            greedy_makespan(made, devices=devices, longest_first=True),
        )
        worst = [max(old, new / bound) for old, new in zip(worst, found, strict=True)]
    return [f"{value:.2f}" for value in worst]


def main() -> None:
    print("| trace | devices, gangs | last start | makespan | makespan, FCFS | makespan, longest first |")
    print("|---|---|---|---|---|---|")
    for devices, gangs, jobs, gap in (
        (64, (1, 1, 1, 2, 2, 4), 600, 5.0),
        (8, (1, 1, 1, 1, 2, 2, 4, 8), 300, 60.0),
    ):
        for name in DURATIONS:
            cells = row(name, devices=devices, gangs=gangs, jobs=jobs, gap=gap)
            print(f"| {name} | {devices}, up to {max(gangs)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
