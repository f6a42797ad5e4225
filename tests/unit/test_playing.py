"""The queue played forward: seed 001's examples, as corrected by the design."""

import pytest

from scheduler.allocation import QueueItem
from scheduler.playing import Play, Turn, play
from tests.traces import one_node

MINUTE = 60.0


def entry(
    number: int, *, minutes: float = 5, devices: int = 1, queued_at: float = 0.0, after: int | None = None
) -> Play:
    item = QueueItem(
        run_ids=(number,),
        experiment_id=1,
        order=(queued_at, number),
        devices=devices,
        limit_seconds=2 * minutes * MINUTE,
    )
    return Play(key=number, item=item, seconds=minutes * MINUTE, queued_at=queued_at, after=after)


def indexes(turn: Turn) -> list[int]:
    return list(turn.device_ids)  # one_node() numbers its devices from 0


def test_the_example_of_seed_001_as_corrected() -> None:
    """A fourth that needs 4 takes the first four that are free, however many small ones come after it."""
    first, second, third = (
        entry(1, devices=2, minutes=10),
        entry(2, devices=4),
        entry(3, devices=2, minutes=8),
    )
    fourth = entry(4, devices=4)
    small = [entry(n, queued_at=float(n)) for n in range(5, 40)]
    turns = play(queue=[first, second, third, fourth, *small], nodes=[one_node(8)])
    assert [indexes(turns[n]) for n in (1, 2, 3)] == [[0, 1], [2, 3, 4, 5], [6, 7]]
    assert [turns[n].start_at for n in (1, 2, 3)] == [0, 0, 0]
    assert (turns[4].start_at, indexes(turns[4])) == (5 * MINUTE, [2, 3, 4, 5])


@pytest.mark.parametrize(
    ("runs", "minutes", "window", "expected"), [(20, 5, 4, 25), (10, 30, 2, 150), (3, 10, 3, 10)]
)
def test_the_scenarios_of_seed_001(runs: int, minutes: int, window: int, expected: int) -> None:
    turns = play(
        queue=[entry(n, minutes=minutes) for n in range(runs)], nodes=[one_node(8)], windows={1: window}
    )
    assert max(turn.end_at for turn in turns.values()) == expected * MINUTE


def test_a_mixed_workload_is_two_to_five_times_as_fast_as_one_after_another() -> None:
    """Some fail after a minute, others run for half an hour: a window slides, and never waits for the slowest."""
    minutes = [1, 30, 5, 1, 10, 30, 1, 5, 20, 1, 30, 5]
    turns = play(
        queue=[entry(n, minutes=m) for n, m in enumerate(minutes)], nodes=[one_node(8)], windows={1: 4}
    )
    makespan = max(turn.end_at for turn in turns.values())
    assert 2 <= sum(minutes) * MINUTE / makespan <= 5
    batches = sum(max(minutes[i : i + 4]) for i in range(0, len(minutes), 4)) * MINUTE
    assert makespan < batches


def test_what_builds_on_another_is_queued_when_that_has_ended() -> None:
    turns = play(queue=[entry(1), entry(2, after=1)], nodes=[one_node(8)])
    assert turns[2].start_at == turns[1].end_at


def test_the_same_queue_is_played_the_same_way() -> None:
    queue = [entry(n, minutes=1 + n % 7, devices=1 + n % 3, queued_at=float(n)) for n in range(50)]
    assert play(queue=queue, nodes=[one_node(8)]) == play(queue=queue, nodes=[one_node(8)])
