"""What place() promises (design section 4), on random queues that are played to their end in simulated time."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.allocation import Decision, FreeDevice, FreeNode, QueueItem
from scheduler.playing import Play, Turn, play
from tests.traces import DURATIONS, bound_of, one_node, plays, trace

DEVICE_MIB = 80
RANDOM_QUEUES = settings(
    max_examples=3400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # three properties: over 10,000 queues


def node(name: str, devices: int, first_id: int) -> FreeNode:
    return FreeNode(
        name=name,
        simulated=False,
        host_memory_mib=100,
        cpu_threads=16,
        total_host_memory_mib=100,
        total_cpu_threads=16,
        devices=tuple(
            FreeDevice(id=first_id + i, node=name, index=i, memory_mib=DEVICE_MIB, free_mib=DEVICE_MIB)
            for i in range(devices)
        ),
    )


LAB = [node("a", 4, 0), node("b", 3, 100)]
NODE_OF = {device.id: node.name for node in LAB for device in node.devices}
_RUN = st.tuples(
    st.integers(1, 20),  # seconds
    st.integers(0, 20),  # more in its limit
    st.integers(0, 30),  # queued at
    st.integers(-3, 3),  # priority
    st.integers(1, 3),  # experiment
    st.integers(1, 4),  # devices
    st.one_of(st.none(), st.integers(1, DEVICE_MIB)),
    st.integers(0, 60),  # host memory
    st.integers(1, 8),  # threads
)
_ALIKE = st.tuples(
    st.integers(1, 20), st.integers(0, 20), st.integers(0, 30), *map(st.just, (0, 1)), st.integers(1, 4)
)
QUEUES = st.lists(_RUN, min_size=1, max_size=10).map(
    lambda rows: [entry(i, *row) for i, row in enumerate(rows)]
)
ALIKE = st.lists(_ALIKE, min_size=1, max_size=10).map(
    lambda rows: [entry(i, *row) for i, row in enumerate(rows)]
)


def entry(
    number: int,
    seconds: int,
    more: int,
    queued_at: int,
    priority: int,
    experiment_id: int,
    devices: int,
    device_memory_mib: int | None = None,
    host_memory_mib: int = 0,
    cpu_threads: int = 1,
) -> Play:
    item = QueueItem(
        run_ids=(number,),
        experiment_id=experiment_id,
        order=(queued_at - 10 * priority, number),
        devices=devices,
        device_memory_mib=device_memory_mib,
        host_memory_mib=host_memory_mib,
        cpu_threads=cpu_threads,
        limit_seconds=seconds + more,
    )
    return Play(key=number, item=item, seconds=seconds, queued_at=queued_at)


def running_at(turns: dict[object, Turn], queue: Sequence[Play], clock: float) -> list[tuple[Play, Turn]]:
    entries = {entry.key: entry for entry in queue}
    return [(entries[key], turn) for key, turn in turns.items() if turn.start_at <= clock < turn.end_at]


def assert_nothing_is_given_beyond_what_there_is(held: list[tuple[Play, Turn]]) -> None:
    given_mib = Counter[int]()
    for entry, turn in held:
        given_mib.update(dict.fromkeys(turn.device_ids, entry.item.device_memory_mib or DEVICE_MIB))
    assert all(mib <= DEVICE_MIB for mib in given_mib.values())
    for node in LAB:
        there = [entry.item for entry, turn in held if turn.node == node.name]
        assert sum(item.host_memory_mib for item in there) <= node.total_host_memory_mib
        assert sum(item.cpu_threads for item in there) <= node.total_cpu_threads


def assert_no_part_of_a_gang(held: list[tuple[Play, Turn]]) -> None:
    for entry, turn in held:
        assert len(set(turn.device_ids)) == entry.item.devices
        assert {NODE_OF[device_id] for device_id in turn.device_ids} == {turn.node}


@RANDOM_QUEUES
@given(QUEUES, st.integers(1, 4))
def test_random_queues_are_held_to_promises_a_and_d(queue: list[Play], window: int) -> None:
    turns = play(queue=queue, nodes=LAB, windows={1: window})
    assert len(turns) == len(queue)  # (d): all needs fit node a when it is empty
    for clock in {turn.start_at for turn in turns.values()}:
        held = running_at(turns, queue, clock)
        assert_nothing_is_given_beyond_what_there_is(held)
        assert_no_part_of_a_gang(held)
        assert sum(entry.item.experiment_id == 1 for entry, _ in held) <= window


@RANDOM_QUEUES
@given(QUEUES)
def test_b_a_head_starts_by_its_reservation_while_nothing_is_ordered_ahead_of_it(queue: list[Play]) -> None:
    promised: dict[int, tuple[float, float]] = {}  # run -> when it became head, and by when it starts

    def watch(clock: float, decision: Decision) -> None:
        for run_id, at in decision.reserved.items():
            promised.setdefault(run_id, (clock, at))

    turns = play(queue=queue, nodes=LAB, watch=watch)
    for run_id, (since, by) in promised.items():
        order = queue[run_id].item.order
        start = turns[run_id].start_at
        ahead = [e for e in queue if e.item.order < order and since < e.queued_at <= start]
        assert ahead or start <= by


@RANDOM_QUEUES
@given(ALIKE)
def test_c_while_a_run_waits_all_but_a_gang_less_one_of_the_devices_are_busy(queue: list[Play]) -> None:
    devices = 5
    turns = play(queue=queue, nodes=[node("a", devices, 0)])
    largest = max(entry.item.devices for entry in queue)
    for clock in sorted({t.start_at for t in turns.values()} | {float(e.queued_at) for e in queue}):
        if any(entry.queued_at <= clock < turns[entry.key].start_at for entry in queue):
            busy = sum(entry.item.devices for entry, _ in running_at(turns, queue, clock))
            assert busy >= devices - largest + 1


def test_d_a_run_of_low_priority_is_not_starved_by_a_stream_of_high_ones() -> None:
    stream = [play_of(n, order=(n * 60.0 - 3600, n), queued_at=n * 60.0, seconds=60) for n in range(1, 200)]
    low = play_of(0, order=(0.0, 0), queued_at=0.0, seconds=60)
    first = play_of(500, order=(-math.inf, 500), queued_at=0.0, seconds=60)
    turns = play(queue=[first, low, *stream], nodes=[node("a", 1, 0)])
    assert turns[0].start_at == 3600  # a point of priority is worth an hour, and no more


def test_d_a_gang_is_not_starved_by_small_runs_that_keep_coming() -> None:
    small = [
        play_of(n, order=(float(n), n), queued_at=float(n), seconds=10, limit_seconds=10)
        for n in range(1, 300)
    ]
    gang = play_of(0, order=(20.0, 0), queued_at=20.0, seconds=10, devices=4)
    turns = play(queue=[gang, *small], nodes=[node("a", 4, 0)])
    assert turns[0].start_at <= 60  # of the 19 that came before it, four at a time


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", list(DURATIONS))
@pytest.mark.parametrize("mean_gap_seconds", [0, 5])
def test_the_last_start_is_within_a_tenth_of_the_bound_of(
    name: str, seed: int, mean_gap_seconds: float
) -> None:
    """By (c) it is at most m / (m - q + 1) times the bound: 64 / 61 here."""
    jobs = trace(name, seed=seed, jobs=600, gangs=[1, 1, 1, 2, 2, 4], mean_gap_seconds=mean_gap_seconds)
    turns = play(queue=plays(jobs), nodes=[one_node(64)])
    assert len(turns) == len(jobs)
    assert max(turn.start_at for turn in turns.values()) <= 1.10 * bound_of(jobs, devices=64)


def play_of(
    number: int,
    *,
    order: tuple[float, ...],
    queued_at: float,
    seconds: float,
    devices: int = 1,
    limit_seconds: float = 60.0,
) -> Play:
    item = QueueItem(
        run_ids=(number,), experiment_id=1, order=order, devices=devices, limit_seconds=limit_seconds
    )
    return Play(key=number, item=item, seconds=seconds, queued_at=queued_at)
