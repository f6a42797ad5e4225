from dataclasses import replace

from experiments.states import RunKind
from scheduler.allocation import FreeDevice, FreeNode, place
from scheduler.grouping import EligibleRun, decide, item_of

TWO_SLOTS = [
    FreeNode(
        name="a",
        simulated=False,
        host_memory_mib=100,
        cpu_threads=8,
        total_host_memory_mib=100,
        total_cpu_threads=8,
        devices=tuple(FreeDevice(id=i, node="a", index=i, memory_mib=10, free_mib=10) for i in range(2)),
    )
]


def run(
    run_id: int, kind: RunKind, *, base: int = 1, arrived: float = 0, hold: float = 900, key: str = "k"
) -> EligibleRun:
    return EligibleRun(
        run_id=run_id,
        kind=kind,
        experiment_id=1,
        base_model_id=base,
        engine_key=key if kind is RunKind.EVALUATE else "",
        turn=arrived,
        hold_until=arrived + hold,
        devices=1,
        device_memory_mib=None,
        host_memory_mib=0,
        cpu_threads=1,
        pool="",
        limit_seconds=60,
        avoided_node="",
    )


def decided(runs: list[EligibleRun], *, training: set[int] = frozenset(), now: float = 10, window: int = 2):  # type: ignore
    bases = frozenset((1, base) for base in training)
    return decide(runs=runs, training=bases, now=now, place=lambda q: place(q, TWO_SLOTS, {1: window}))


def test_evaluations_of_a_base_model_start_as_one_job() -> None:
    decision = decided(
        [run(1, RunKind.EVALUATE), run(2, RunKind.EVALUATE), run(3, RunKind.EVALUATE, base=2, key="l")]
    )
    assert [p.item.run_ids for p in decision.placements] == [(1, 2), (3,)]


def test_an_evaluation_is_held_while_a_fine_tune_of_its_base_runs() -> None:
    decision = decided([run(1, RunKind.EVALUATE)], training={1})
    assert not decision.placements
    assert "shares an engine" in decision.waiting[1]


def test_an_evaluation_is_held_while_a_fine_tune_of_its_base_could_start_now() -> None:
    decision = decided([run(1, RunKind.EVALUATE), run(2, RunKind.FINETUNE)])
    assert [p.item.run_ids for p in decision.placements] == [(2,)]


def test_a_fine_tune_that_cannot_start_holds_no_evaluation() -> None:
    runs = [
        run(1, RunKind.EVALUATE, arrived=0),
        run(2, RunKind.FINETUNE, base=2, arrived=0),
        run(3, RunKind.FINETUNE, base=1, arrived=5),
    ]
    decision = decided(runs)
    assert 1 in decision.waiting  # the second slot goes to the fine-tune of its own base
    decision = decided(runs, window=1)
    assert [p.item.run_ids for p in decision.placements] == [(1,)]


def test_the_hold_ends_after_its_time() -> None:
    decision = decided([run(1, RunKind.EVALUATE, hold=5)], training={1}, now=10)
    assert [p.item.run_ids for p in decision.placements] == [(1,)]


def test_the_fine_tunes_of_another_base_hold_nothing() -> None:
    assert decided([run(1, RunKind.EVALUATE, base=2)], training={1}).placements


def test_what_engines_broke_down_on_goes_alone_and_is_not_held() -> None:
    alone = replace(run(1, RunKind.EVALUATE), goes_alone=True)
    decision = decided([alone, run(2, RunKind.EVALUATE), run(3, RunKind.EVALUATE)])
    assert [p.item.run_ids for p in decision.placements] == [(1,), (2, 3)]
    assert [p.item.run_ids for p in decided([alone], training={1}).placements] == [(1,)]


def test_a_group_avoids_the_node_that_any_of_its_runs_avoids() -> None:
    lost = replace(run(2, RunKind.EVALUATE), avoided_node="a")
    assert item_of([run(1, RunKind.EVALUATE), lost]).avoided_node == "a"
