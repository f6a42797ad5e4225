"""place(): what seed scheduling examples ask for, and what must never happen."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.allocation import Decision, FreeDevice, FreeNode, QueueItem, Running, place


def node(
    name: str = "a",
    *,
    devices: int = 8,
    free: int | None = None,
    drained: int = 0,
    simulated: bool = False,
    pool: str = "",
    utilisation_percent: int = 0,
    **room: int,
) -> FreeNode:
    free = devices if free is None else free
    return FreeNode(
        name=name,
        simulated=simulated,
        host_memory_mib=room.get("host_memory_mib", 1000),
        cpu_threads=room.get("cpu_threads", 64),
        total_host_memory_mib=1000,
        total_cpu_threads=64,
        pool=pool,
        devices=tuple(
            FreeDevice(
                id=hash((name, index)) % 10**9,
                node=name,
                index=index,
                memory_mib=80,
                free_mib=80 if index >= devices - free else 0,
                utilisation_percent=utilisation_percent,
                is_offered=index >= drained,
            )
            for index in range(devices)
        ),
    )


def item(run_id: int, *, devices: int = 1, priority: int = 0, **needs: object) -> QueueItem:
    return QueueItem(
        run_ids=(run_id,),
        experiment_id=1,
        order=(-priority, run_id),
        devices=devices,
        **needs,  # type: ignore[arg-type]
    )


def busy(nodes: list[FreeNode], *, until: float) -> list[Running]:
    """A job on every device that is not free."""
    return [
        Running(node=node.name, device_mib={device.id: 80}, ends_at=until)
        for node in nodes
        for device in node.devices
        if device.free_mib == 0
    ]


def indexes(decision: Decision, nodes: list[FreeNode]) -> dict[int, list[int]]:
    by_id = {device.id: device.index for node in nodes for device in node.devices}
    return {p.item.run_ids[0]: [by_id[i] for i in p.device_ids] for p in decision.placements}


def test_needs_of_2_4_and_2_start_at_once_on_8_devices() -> None:
    nodes = [node()]
    decision = place([item(1, devices=2), item(2, devices=4), item(3, devices=2)], nodes)
    assert indexes(decision, nodes) == {1: [0, 1], 2: [2, 3, 4, 5], 3: [6, 7]}


def test_a_gang_waits_rather_than_take_half() -> None:
    decision = place([item(1, devices=4)], [node(free=3)])
    assert decision.placements == ()
    assert "needs 4 devices; free now: node a has 3" in decision.waiting[1]


def test_a_gang_is_never_spread_over_two_nodes() -> None:
    assert not place(
        [item(1, devices=3)], [node("a", devices=4, free=2), node("b", devices=4, free=2)]
    ).placements


def test_a_small_run_does_not_pass_a_gang_that_waits() -> None:
    nodes = [node(devices=4, free=3)]
    decision = place([item(1, devices=4), item(2, limit_seconds=11)], nodes, running=busy(nodes, until=10))
    assert decision.placements == ()
    assert "behind run 1, which it would delay" in decision.waiting[2]
    assert decision.reserved == {1: 10}


def test_a_small_run_passes_a_gang_when_it_ends_before_the_gang_can_start() -> None:
    nodes = [node(devices=4, free=3)]
    decision = place([item(1, devices=4), item(2, limit_seconds=10)], nodes, running=busy(nodes, until=10))
    assert [p.item.run_ids for p in decision.placements] == [(2,)]


def test_a_small_run_passes_a_gang_on_what_the_gang_will_not_need() -> None:
    nodes = [node(devices=8, free=3)]
    queue = [item(1, devices=4), item(2, devices=3, limit_seconds=99), item(3, limit_seconds=99)]
    decision = place(queue, nodes, running=busy(nodes, until=10))
    assert [p.item.run_ids for p in decision.placements] == [(2,)]


def test_what_passes_a_gang_leaves_it_host_memory_and_threads_however_many_pass() -> None:
    nodes = [node(devices=6, free=3)]
    for needs, most in (
        ({"host_memory_mib": 600}, {"host_memory_mib": 300}),
        ({"cpu_threads": 40}, {"cpu_threads": 20}),
    ):
        queue = [item(1, devices=4, **needs), *(item(n, limit_seconds=99, **most) for n in (2, 3))]
        decision = place(queue, nodes, running=busy(nodes, until=10))
        assert [p.item.run_ids for p in decision.placements] == [(2,)]


def test_a_pool_has_a_head_of_its_own() -> None:
    nodes = [node("a", devices=2, free=1), node("b", devices=2, pool="fast")]
    queue = [item(1, devices=2), item(2, pool="fast"), item(3, pool="none")]
    decision = place(queue, nodes, running=busy(nodes[:1], until=10))
    assert [(p.item.run_ids, p.node) for p in decision.placements] == [((2,), "b")]
    assert "no node could ever hold it: it needs 1 device in pool none" in decision.waiting[3]


def test_what_waits_for_a_drained_device_says_so_and_holds_back_nobody() -> None:
    nodes = [node(devices=2, drained=1)]
    decision = place([item(1, devices=2), item(2)], nodes)
    assert [p.item.run_ids for p in decision.placements] == [(2,)]
    assert "devices of node a that could hold it are drained" in decision.waiting[1]


def test_a_gang_larger_than_any_node_is_told_that_jobs_are_not_spread() -> None:
    decision = place([item(1, devices=6)], [node("a", devices=4), node("b", devices=4)])
    assert "the largest has 4; a job is not spread over nodes" in decision.waiting[1]


def test_of_two_nodes_alike_the_less_utilised_devices_are_taken() -> None:
    nodes = [node("a", devices=1, utilisation_percent=90), node("b", devices=1)]
    assert place([item(1)], nodes).placements[0].node == "b"


def test_a_run_that_no_node_could_ever_hold_holds_back_nobody() -> None:
    decision = place([item(1, devices=9), item(2)], [node()])
    assert [p.item.run_ids for p in decision.placements] == [(2,)]
    assert "no node could ever hold it" in decision.waiting[1]


def test_priority_comes_before_arrival() -> None:
    decision = place([item(1), item(2, priority=5)], [node(free=1)])
    assert [p.item.run_ids for p in decision.placements] == [(2,)]


def test_simulated_devices_never_take_real_runs_nor_real_devices_simulated_ones() -> None:
    decision = place([item(1), item(2, simulated=True)], [node("real"), node("sim", simulated=True)])
    assert {p.item.run_ids[0]: p.node for p in decision.placements} == {1: "real", 2: "sim"}
    assert not place([item(1, simulated=True)], [node("real")]).placements


def test_a_window_lets_so_many_start_and_no_more() -> None:
    decision = place([item(1), item(2), item(3)], [node()], windows={1: 2})
    assert [p.item.run_ids[0] for p in decision.placements] == [1, 2]
    assert "max_parallel" in decision.waiting[3]


def test_a_run_held_by_its_window_is_not_head_of_the_queue() -> None:
    other = QueueItem(run_ids=(9,), experiment_id=2, order=(0, 9))
    decision = place([item(1), other], [node()], windows={1: 0, 2: 1})
    assert [p.item.run_ids[0] for p in decision.placements] == [9]


def test_shares_of_a_device_are_packed_best_fit() -> None:
    nodes = [node(devices=2)]
    decision = place([item(1, device_memory_mib=50), item(2, device_memory_mib=30), item(3)], nodes)
    assert indexes(decision, nodes) == {1: [0], 2: [0], 3: [1]}


def test_the_node_left_least_fragmented_is_taken() -> None:
    decision = place([item(1, devices=2)], [node("a", devices=8), node("b", devices=2)])
    assert decision.placements[0].node == "b"


def test_the_node_that_lost_a_run_is_passed_over_while_there_is_another() -> None:
    lost = item(1, avoided_node="a")
    assert place([lost], [node("a", devices=1), node("b")]).placements[0].node == "b"
    assert place([lost], [node("a", devices=1)]).placements[0].node == "a"


def test_host_memory_and_threads_are_not_given_twice() -> None:
    hungry = [item(i, host_memory_mib=600) for i in (1, 2)]
    assert len(place(hungry, [node()]).placements) == 1
    threads = [item(i, cpu_threads=40) for i in (1, 2)]
    assert len(place(threads, [node()]).placements) == 1


items = st.builds(
    item,
    st.integers(1, 10_000),
    devices=st.integers(1, 5),
    priority=st.integers(-2, 2),
    device_memory_mib=st.one_of(st.none(), st.integers(1, 80)),
    host_memory_mib=st.integers(0, 400),
)


@given(st.lists(items, max_size=20, unique_by=lambda i: i.run_ids), st.integers(0, 4), st.integers(1, 8))
def test_nothing_is_ever_given_beyond_what_there_is(queue: list[QueueItem], free: int, window: int) -> None:
    nodes = [node("a", devices=4, free=free), node("b", devices=3)]
    decision = place(queue, nodes, windows={1: window})
    given_mib: dict[int, int] = {}
    for placement in decision.placements:
        assert len(set(placement.device_ids)) == placement.item.devices
        for device_id in placement.device_ids:
            given_mib[device_id] = given_mib.get(device_id, 0) + (placement.item.device_memory_mib or 80)
    room = {device.id: device.free_mib for n in nodes for device in n.devices}
    assert all(mib <= room[device_id] for device_id, mib in given_mib.items())
    for n in nodes:
        assert (
            sum(p.item.host_memory_mib for p in decision.placements if p.node == n.name) <= n.host_memory_mib
        )
    assert len(decision.placements) <= window
    assert {r for p in decision.placements for r in p.item.run_ids} | set(decision.waiting) == {
        r for i in queue for r in i.run_ids
    }
