"""What a queue cost, from when its runs started and ended: wall over the ideal, idle gaps of its slots. Pure."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

UNKNOWN_SLOT = "-"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run as it noted itself; seconds on one clock."""

    name: str
    slot: str
    started: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    runs: int
    wall_seconds: float  # from handing the runs over until the last process ended
    ideal_seconds: float
    over_ideal: float
    first_start_seconds: float
    gap_p50_ms: float | None
    gap_p99_ms: float | None
    gap_max_ms: float | None


def measure(ran: Sequence[Ran], *, submitted_at: float, seconds: float, slots: int) -> Measured:
    wall = max(each.ended for each in ran) - submitted_at
    ideal = math.ceil(len(ran) / slots) * seconds
    between = sorted(gaps(ran, slots=slots))
    return Measured(
        runs=len(ran),
        wall_seconds=round(wall, 3),
        ideal_seconds=ideal,
        over_ideal=round(wall / ideal, 3),
        first_start_seconds=round(min(each.started for each in ran) - submitted_at, 3),
        gap_p50_ms=percentile_ms(between, 0.5),
        gap_p99_ms=percentile_ms(between, 0.99),
        gap_max_ms=percentile_ms(between, 1.0),
    )


def faults(ran: Sequence[Ran], *, expected: int, slots: int) -> list[str]:
    """Why the figures of a peer would not count: runs that are missing or doubled, slots that held two at once."""
    told = []
    if missing := expected - len({each.name for each in ran}):
        told.append(f"{missing} of {expected} runs did not run")
    if doubled := len(ran) - len({each.name for each in ran}):
        told.append(f"{doubled} runs ran twice")
    if (used := len(_by_slot(ran))) > slots:
        told.append(f"{used} slots were used where there are {slots}")
    if any(gap < 0 for gap in gaps(ran, slots=slots)):
        told.append("a slot held two runs at once")
    return told


def gaps(ran: Sequence[Ran], *, slots: int) -> list[float]:
    """How long each slot stood idle between the end of one process and the start of the next."""
    known = with_slots(ran, slots=slots) if any(each.slot == UNKNOWN_SLOT for each in ran) else ran
    return [
        later.started - earlier.ended
        for held in _by_slot(known).values()
        for earlier, later in zip(held, held[1:], strict=False)
    ]


def with_slots(ran: Sequence[Ran], *, slots: int) -> list[Ran]:
    """Of a queue that only counts its slots: each start takes the one that has been free for longest."""
    free_since = dict.fromkeys(map(str, range(slots)), -math.inf)
    placed = []
    for each in sorted(ran, key=lambda each: each.started):
        slot = min(free_since, key=lambda name: free_since[name])
        free_since[slot] = each.ended
        placed.append(replace(each, slot=slot))
    return placed


def on_slots(ran: Sequence[Ran], slot_of: Mapping[str, str]) -> list[Ran]:
    """With the slots that the queue itself tells of its runs."""
    return [replace(each, slot=slot_of.get(each.name, each.slot)) for each in ran]


def percentile_ms(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that so much of all is at most."""
    return round(1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2) if ordered else None


def _by_slot(ran: Sequence[Ran]) -> dict[str, list[Ran]]:
    held: dict[str, list[Ran]] = defaultdict(list)
    for each in sorted(ran, key=lambda each: each.started):
        held[each.slot].append(each)
    return held
