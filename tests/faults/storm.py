"""What will go wrong, and when: an endless stream of faults that follows from its seed alone."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_KILLED, _STOPPED = 12.0, (1.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to go wrong. Faults of a kind keep `apart_seconds`, and those of a component do so up to _KILLED, so that
    each recovery can be told."""

    name: str
    component: str
    weight: float
    apart_seconds: float = 0.0
    seconds: tuple[float, float] = (0.0, 0.0)  # how long it lasts, where that is chosen


@dataclass(frozen=True, kw_only=True)
class Planned:
    kind: Kind
    after_seconds: float  # since the one before
    seconds: float
    pick: float  # from 0 to 1: which of the targets that are there


KINDS: tuple[Kind, ...] = (
    Kind(name="kill_supervisor", component="supervisor", weight=10, apart_seconds=1.5),
    Kind(name="stop_supervisor", component="supervisor", weight=4, apart_seconds=1.0, seconds=_STOPPED),
    Kind(name="kill_resident", component="resident", weight=6, apart_seconds=3.0),
    Kind(name="stop_resident", component="resident", weight=3, apart_seconds=3.0, seconds=_STOPPED),
    Kind(name="kill_node", component="node", weight=5, apart_seconds=_KILLED),
    Kind(name="kill_node_and_supervisor", component="node", weight=3, apart_seconds=_KILLED),
    Kind(name="stop_node", component="node", weight=3, apart_seconds=_KILLED, seconds=_STOPPED),
    Kind(name="kill_second", component="second", weight=4, apart_seconds=_KILLED),
    Kind(name="stop_second", component="second", weight=2, apart_seconds=_KILLED, seconds=_STOPPED),
    Kind(name="lose_second", component="second", weight=2, apart_seconds=60.0, seconds=(26.0, 32.0)),
    Kind(name="freeze_second", component="second", weight=2, apart_seconds=60.0, seconds=(26.0, 32.0)),
    Kind(name="kill_control", component="control", weight=5, apart_seconds=_KILLED),
    Kind(name="stop_control", component="control", weight=3, apart_seconds=_KILLED, seconds=_STOPPED),
    Kind(name="kill_redis", component="redis", weight=4, apart_seconds=_KILLED),
    Kind(name="stop_redis", component="redis", weight=3, apart_seconds=_KILLED, seconds=_STOPPED),
    Kind(name="kill_web", component="web", weight=4, apart_seconds=_KILLED),
    Kind(name="stop_web", component="web", weight=2, apart_seconds=_KILLED, seconds=_STOPPED),
    Kind(name="kill_beat", component="beat", weight=4, apart_seconds=_KILLED),
    Kind(name="stop_beat", component="beat", weight=2, apart_seconds=_KILLED, seconds=_STOPPED),
    Kind(name="flush_redis", component="messages", weight=6, apart_seconds=1.0),
    Kind(name="drop_messages", component="messages", weight=7, apart_seconds=1.0, seconds=(0.5, 2.0)),
    Kind(name="double_messages", component="messages", weight=7, apart_seconds=1.0, seconds=(0.5, 2.0)),
    Kind(name="delay_messages", component="messages", weight=7, apart_seconds=1.0, seconds=(1.0, 4.0)),
    Kind(name="hold_database", component="database", weight=4, apart_seconds=10.0, seconds=(1.0, 5.0)),
    Kind(name="set_clock", component="clock", weight=1.5, apart_seconds=45.0),
)
ON_POSTGRES: tuple[Kind, ...] = (
    Kind(name="restart_database", component="database", weight=4, apart_seconds=15.0),
    Kind(name="crash_database", component="database", weight=2, apart_seconds=15.0),
)


def kinds(*, on_postgres: bool, only: Sequence[str] = ()) -> list[Kind]:
    every = [*KINDS, *(ON_POSTGRES if on_postgres else ())]
    unknown = set(only) - {kind.name for kind in every}
    if unknown:
        raise ValueError(f"There are no faults {sorted(unknown)}; there are {[kind.name for kind in every]}.")
    return [kind for kind in every if not only or kind.name in only]


def plan(*, seed: int, chosen: Sequence[Kind], gap_seconds: float) -> Iterator[Planned]:
    """Whatever becomes of the earlier ones."""
    dice = random.Random(seed)
    at, last = 0.0, 0.0
    free_at: dict[str, float] = {}
    while True:
        at += gap_seconds * dice.uniform(0.5, 1.5)
        due = [kind for kind in chosen if max(_free_at(kind, free_at)) <= at]
        if not due:
            at = min(max(_free_at(kind, free_at)) for kind in chosen)
            continue
        [kind] = dice.choices(due, [kind.weight for kind in due])
        seconds = dice.uniform(*kind.seconds)
        free_at[kind.component] = at + seconds + min(kind.apart_seconds, _KILLED)
        free_at[kind.name] = at + seconds + kind.apart_seconds
        yield Planned(kind=kind, after_seconds=at - last, seconds=seconds, pick=dice.random())
        last = at


def _free_at(kind: Kind, free_at: Mapping[str, float]) -> tuple[float, float]:
    return free_at.get(kind.component, 0.0), free_at.get(kind.name, 0.0)
