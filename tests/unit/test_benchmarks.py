"""What the benchmarks of the estimates rest on: their records, the ways they are compared with, the search for a batch."""

from dataclasses import replace

import pytest

from experiments.conditions import Metric
from tests.benchmarks import estimates, largest_batch, rivals
from tests.benchmarks.recorded_finetunes import Recorded, by_configuration, load

MEMORY = Metric.PEAK_DEVICE_MEMORY_MIB
TIME = Metric.SECONDS_PER_STEP


@pytest.fixture(scope="module")
def runs() -> list[Recorded]:
    return load()


def test_the_recorded_fine_tunes_cover_what_moves_time_and_memory(runs: list[Recorded]) -> None:
    conditions = [run.conditions for run in runs]
    assert len(runs) >= 44
    assert len({each.model_shape for each in conditions}) >= 2
    assert len({each.batch_size for each in conditions}) >= 4
    assert len({each.lora_rank for each in conditions}) >= 3
    assert len({each.gradient_accumulation_steps for each in conditions}) >= 3
    assert sum(bool(each.packed) for each in conditions) >= 10
    assert sum(each.epochs == 2 for each in conditions) >= 6
    assert sum(len(repeats) >= 3 for repeats in by_configuration(runs).values()) >= 4


def test_of_two_recorded_runs_of_one_configuration_the_conditions_are_the_same(runs: list[Recorded]) -> None:
    for repeats in by_configuration(runs).values():
        assert len({run.conditions for run in repeats}) == 1


def test_every_recorded_run_took_as_much_memory_again_as_its_imports(runs: list[Recorded]) -> None:
    for run in runs:
        assert run.values[MEMORY] >= 2 * run.import_memory_mib, run.key


def test_the_tokens_of_a_step_are_those_of_its_micro_batches_after_the_warm_up(runs: list[Recorded]) -> None:
    run = next(run for run in runs if run.configuration == "large_b2_t40-90_r16_a2")
    (lengths,) = run.record["batch_lengths"]
    assert len(lengths) == 2 * len(run.record["steps"])
    assert run.conditions.tokens_per_step == pytest.approx(2 * sum(lengths[2:]) / run.steady_steps)
    assert run.conditions.longest_batch_tokens == 2 * max(lengths)


def test_the_rule_of_seed_000_scales_by_the_batch_size(runs: list[Recorded]) -> None:
    run, other = runs[0], _like(runs[0], batch_size=2 * runs[0].batch_size)
    assert rivals.proportional(other, [run], TIME) == [pytest.approx(2 * run.values[TIME])]


def test_the_last_two_runs_are_those_before_it(runs: list[Recorded]) -> None:
    of_model = [run for run in runs if run.model == runs[-1].model]
    *_, first, second, last = of_model
    expected = (first.values[TIME] + second.values[TIME]) / 2
    assert rivals.last_two(last, of_model[:-1], TIME) == [pytest.approx(expected)]


def test_the_spread_is_that_of_runs_that_were_repeated(runs: list[Recorded]) -> None:
    slow = _like(runs[0], repeat=1)
    slow.record["steps"][:] = [{**step, "seconds": 1.5 * step["seconds"]} for step in runs[0].record["steps"]]
    assert estimates.spread([runs[0], slow], TIME) == pytest.approx((1 / 2 + 1 / 3) / 2)


def _like(run: Recorded, *, repeat: int = 0, **settings: object) -> Recorded:
    configuration = {**run.record["configuration"], **settings}
    record = {**run.record, "repeat": repeat, "configuration": configuration, "steps": [*run.record["steps"]]}
    return replace(run, record=record)


@pytest.mark.parametrize(
    ("largest", "start"), [(17, 1), (17, 16), (17, 17), (17, 18), (1, 1), (0, 1), (64, 3)]
)
def test_the_true_maximum_is_found_from_anywhere(largest: int, start: int) -> None:
    tried: list[int] = []

    def fits(batch_size: int) -> bool:
        tried.append(batch_size)
        return batch_size <= largest

    assert largest_batch.true_maximum(fits, start=start, ceiling=64) == largest
    assert len(tried) == len(set(tried))


def test_an_advice_is_followed_until_it_does_not_change() -> None:
    ran = [2]

    def advise() -> int:
        return min(2 * max(ran), 12)

    def fits(batch_size: int) -> bool:
        ran.append(batch_size)
        return batch_size <= 11

    followed = largest_batch.follow(advise, fits)
    assert (followed.batch_size, followed.ran_out, ran) == (12, True, [2, 4, 8, 12])
