"""Which evidence is chosen, and how it is graded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.conditions import Conditions, Metric
from experiments.estimation import Evidence, figure, why_not
from experiments.figures import Figure, Grade
from tests.unit.estimation_facts import (
    ONE_B,
    THREE_B,
    conditions,
    fact,
    peak,
    step,
    told,
)

TIME, MEMORY = Metric.SECONDS_PER_STEP, Metric.PEAK_DEVICE_MEMORY_MIB
A100 = {"device_kind": "NVIDIA A100", "device_memory_mib": 40_000}


def estimate(facts: list, metric: str = TIME, **fields) -> Figure:
    return figure(Evidence(facts), conditions(**fields), metric)


def affine_steps(**fields) -> list:
    """0.1 s and 1 ms a token, at four batch sizes."""
    return [step(0.1 + 0.001 * 100 * batch, batch_size=batch, **fields) for batch in (1, 2, 4, 8)]


def test_runs_under_the_same_conditions_are_averaged_geometrically() -> None:
    first, second = step(0.2), step(0.8)
    found = estimate([first, second, step(3.0, batch_size=8)])
    assert found.value == pytest.approx(0.4)
    assert (found.grade, found.n) == (Grade.MEASURED, 2)
    assert set(found.observations) == {first.id, second.id}


def test_what_a_clock_shows_as_zero_is_as_good_as_zero() -> None:
    found = estimate([fact(Metric.CHECKPOINT_SECONDS, 0.0, conditions())], Metric.CHECKPOINT_SECONDS)
    assert (found.grade, found.value) == (Grade.MEASURED, pytest.approx(0.0, abs=0.01))


def test_several_facts_of_a_run_count_as_one_run() -> None:
    under = conditions()
    same = [fact(TIME, 0.2, under, run="a"), fact(TIME, 0.2, under, run="a"), fact(TIME, 0.8, under, run="b")]
    found = estimate(same)
    assert (found.n, found.value) == (2, pytest.approx(0.4))


def test_between_observed_batches_a_fit_interpolates_and_beyond_it_extrapolates() -> None:
    within, beyond = estimate(affine_steps(), batch_size=6), estimate(affine_steps(), batch_size=16)
    assert (within.grade, within.value) == (Grade.INTERPOLATED, pytest.approx(0.7))
    assert (beyond.grade, beyond.value) == (Grade.EXTRAPOLATED, pytest.approx(1.7))
    assert within.n == beyond.n == 4


def test_a_rank_that_was_never_observed_is_extrapolated_and_the_note_says_what_is_left_out() -> None:
    found = estimate(affine_steps(), rank=64)
    assert found.grade == Grade.EXTRAPOLATED
    assert "Left out:" in found.note and "per trainable parameter" in found.note


def test_one_configuration_says_nothing_of_a_batch_twice_as_large() -> None:
    found = estimate([step(0.5), step(0.5)], batch_size=8)
    assert found.value is None and found.grade == Grade.NONE
    assert "too little variation" in found.note


def test_a_probe_with_a_few_tokens_more_speaks_for_the_run() -> None:
    found = estimate([step(0.5, length=110.0)])
    assert (found.grade, found.n) == (Grade.EXTRAPOLATED, 1)
    assert found.value == pytest.approx(0.5 / 1.1)


def test_accumulation_alone_does_not_tell_what_a_larger_batch_takes() -> None:
    runs = [step(0.2 * many, gradient_accumulation_steps=many) for many in (1, 2, 4)]
    assert estimate(runs, gradient_accumulation_steps=3).value == pytest.approx(0.6)
    assert estimate(runs, batch_size=8).value is None


def test_packed_evidence_never_speaks_for_unpacked_runs() -> None:
    found = estimate(affine_steps(packed=True), packed=False)
    assert found.value is None
    assert "packed, and this is not" in found.note


def test_the_tokens_of_packs_follow_from_the_settings() -> None:
    runs = [
        step(0.1 + 0.001 * 512 * batch, batch_size=batch, length=512.0, packed=True) for batch in (1, 2, 4)
    ]
    unknown = {"tokens_per_step": None, "squares_per_step": None, "longest_batch_tokens": None}
    found = estimate(runs, batch_size=4, packed=True, **unknown)
    assert (found.grade, found.value) == (Grade.MEASURED, pytest.approx(0.1 + 0.001 * 2048))


def test_other_versions_are_used_as_extrapolated_and_named() -> None:
    found = estimate([step(0.5, software="torch 2.12.0")])
    assert (found.grade, found.value) == (Grade.EXTRAPOLATED, pytest.approx(0.5))
    assert "torch 2.12.0" in found.note


def test_the_same_versions_are_preferred() -> None:
    assert estimate([step(0.5, software="torch 2.12.0"), step(0.3)]).value == pytest.approx(0.3)


def test_runs_with_as_many_jobs_beside_them_are_preferred() -> None:
    alone, beside = step(0.5), step(0.9, co_runners=1)
    assert estimate([alone, beside], co_runners=1).value == pytest.approx(0.9)
    only_alone = estimate([alone], co_runners=1)
    assert only_alone.grade == Grade.EXTRAPOLATED and "jobs beside it" in only_alone.note


@pytest.mark.parametrize(
    "other",
    [
        {"cpu_threads": 4},
        {"precision": "fp32"},
        {"optimizer": "SGD"},
        {"compiled": True},
        {"activation_checkpointing": True},
        {"world_size": 2},
        {"recipe": "full_finetune_single_device"},
    ],
)
def test_what_moves_the_time_must_be_equal(other: dict) -> None:
    assert estimate([step(0.5, **other)]).value is None


def test_what_does_not_move_the_memory_need_not_be() -> None:
    found = estimate([peak(9000, cpu_threads=4, co_runners=3, rows=10, epochs=7)], MEMORY)
    assert found.grade == Grade.MEASURED


def test_an_option_that_a_log_does_not_tell_is_taken_as_equal_and_said() -> None:
    found = estimate([step(0.5, attention="")])
    assert (found.grade, found.value) == (Grade.MEASURED, pytest.approx(0.5))
    assert "attention" in found.note


def test_a_validating_recipe_takes_the_same_steps() -> None:
    assert estimate([step(0.5)], recipe="lora_validating_single_device").grade == Grade.MEASURED


# Another device, another model


def test_another_device_is_scaled_by_what_ran_on_both() -> None:
    both = [step(0.4, model_shape=THREE_B), step(0.8, model_shape=THREE_B, **A100)]
    elsewhere = step(0.5, **A100)
    found = estimate([*both, elsewhere])
    assert (found.grade, found.value) == (Grade.OTHER_DEVICE, pytest.approx(0.25))
    assert set(found.observations) == {elsewhere.id, *(one.id for one in both)}
    assert "0.5" in found.note and "NVIDIA A100" in found.note and "1 configuration" in found.note


def test_another_device_without_a_ratio_is_no_evidence() -> None:
    found = estimate([step(0.5, **A100)])
    assert found.value is None
    assert "NVIDIA A100" in found.note and "no configuration ran both there" in found.note


def test_devices_with_other_threads_are_compared_as_they_are() -> None:
    there = {**A100, "cpu_threads": 16}
    found = estimate(
        [step(0.4, model_shape=THREE_B), step(0.8, model_shape=THREE_B, **there), step(0.5, **there)]
    )
    assert found.value == pytest.approx(0.25) and "16 threads" in found.note


def test_the_ratio_of_two_models_measured_on_one_device_is_used_on_another() -> None:
    ratio = [step(0.4, model_shape=ONE_B, **A100), step(1.0, model_shape=THREE_B, **A100)]
    here = step(0.2, model_shape=ONE_B)
    found = estimate([*ratio, here], model_shape=THREE_B)
    # A ratio of devices would say the same; it is the nearer grade.
    assert found.value == pytest.approx(0.5) and found.grade == Grade.OTHER_DEVICE


def test_the_ratio_of_two_models_of_another_recipe_is_used_and_named() -> None:
    full = {"recipe": "full_finetune_single_device"}
    ratio = [step(0.4, model_shape=ONE_B, **full), step(1.0, model_shape=THREE_B, **full)]
    found = estimate([*ratio, step(0.2, model_shape=ONE_B)], model_shape=THREE_B)
    assert (found.grade, found.value) == (Grade.OTHER_MODEL, pytest.approx(0.5))
    assert ONE_B in found.note and "2.5" in found.note
    assert {one.id for one in ratio} < set(found.observations)


def test_models_need_not_have_run_at_the_same_batch_size_where_a_fit_spans_it() -> None:
    full = {"recipe": "full_finetune_single_device"}
    ratio = [*affine_steps(model_shape=ONE_B, **full), step(1.4, model_shape=THREE_B, batch_size=6, **full)]
    found = estimate([*ratio, step(0.2, model_shape=ONE_B)], model_shape=THREE_B)
    assert (found.grade, found.value) == (Grade.OTHER_MODEL, pytest.approx(0.4))


# Told


def test_what_a_person_tells_holds_where_it_matches_and_nowhere_else() -> None:
    of_batch_four = told(TIME, 0.23, batch_size=4, packed=False)
    assert estimate([of_batch_four]).value == pytest.approx(0.23)
    assert estimate([of_batch_four]).grade == Grade.TOLD
    for other in ({"batch_size": 8}, {"packed": True}):
        found = estimate([of_batch_four], **other)
        assert found.value is None and "Told, and not used" in found.note


def test_of_two_that_match_the_one_that_says_more_is_taken_and_of_those_the_latest() -> None:
    general, special = told(TIME, 0.1, packed=False), told(TIME, 0.2, packed=False, batch_size=4)
    corrected = told(TIME, 0.3, packed=False, batch_size=4)
    assert estimate([special, general]).value == pytest.approx(0.2)
    assert estimate([special, corrected, general]).value == pytest.approx(0.3)


def test_what_was_measured_goes_before_what_was_told() -> None:
    assert estimate([told(TIME, 0.1), step(0.5)]).grade == Grade.MEASURED


def test_what_was_told_is_never_averaged_with_what_was_measured() -> None:
    assert estimate([told(TIME, 0.1, batch_size=4), step(0.5)]).value == pytest.approx(0.5)


def test_a_model_is_told_by_its_name() -> None:
    assert estimate([told(TIME, 0.1, model_name="Llama")]).value == pytest.approx(0.1)
    assert estimate([told(TIME, 0.1, model_name="Mistral")]).value is None


# Memory


def test_memory_is_affine_and_not_proportional() -> None:
    """Seed 000: 2.4 GB at batch 1, and so 80 / 2.4 * 0.7 = 23 would fit. The weights are paid once only."""
    runs = [peak(2_400 + 3_200 * batch, batch_size=batch) for batch in (1, 2, 4)]
    found = estimate(runs, MEMORY, batch_size=23)
    assert found.value == pytest.approx(2_400 + 3_200 * 23)
    assert found.value < 23 * 5_600
    assert found.grade == Grade.EXTRAPOLATED


def test_one_run_bounds_what_a_smaller_batch_takes_and_says_nothing_of_a_larger() -> None:
    assert estimate([peak(9_000)], MEMORY, batch_size=3).value == pytest.approx(9_000)
    assert estimate([peak(9_000)], MEMORY, batch_size=5).value is None


def test_the_rank_enters_the_memory_linearly() -> None:
    runs = [
        peak(5_000 + 10 * 100 * batch + 8 * 0.1 * rank * 10, batch_size=batch, rank=rank)
        for batch in (1, 2, 4)
        for rank in (4, 64)
    ]
    found = estimate(runs, MEMORY, batch_size=2, rank=32)
    assert (found.grade, found.value) == (Grade.INTERPOLATED, pytest.approx(5_000 + 2_000 + 256, rel=1e-3))


def test_what_accumulation_takes_is_told_apart_from_the_batch() -> None:
    runs = [
        peak(
            5_000 + 1_000 * batch + (400 if many > 1 else 0),
            batch_size=batch,
            gradient_accumulation_steps=many,
        )
        for batch in (1, 2, 4, 8)
        for many in (1, 4)
    ]
    for many, expected in ((1, 8_000), (2, 8_400)):
        found = estimate(runs, MEMORY, batch_size=3, gradient_accumulation_steps=many)
        assert (found.grade, found.value) == (Grade.INTERPOLATED, pytest.approx(expected, rel=1e-3))


def test_a_rank_that_never_varied_adds_what_its_parameters_take_by_arithmetic() -> None:
    """A parameter, its gradient and two moments of AdamW, each of two bytes in bf16."""
    runs = [peak(5_000 + 1_000 * batch, batch_size=batch, rank=16) for batch in (1, 2, 4)]
    found = estimate(runs, MEMORY, batch_size=2, rank=64)
    assert found.value == pytest.approx(7_000 + (64 - 16) * 100_000 * 8 / 2**20, rel=1e-4)
    assert found.grade == Grade.EXTRAPOLATED
    assert "per trainable parameter, computed" in found.note


def test_an_optimizer_whose_state_is_not_known_adds_nothing_for_the_rank() -> None:
    runs = [peak(5_000 + 1_000 * batch, batch_size=batch, rank=16, optimizer="Lion") for batch in (1, 2, 4)]
    assert estimate(runs, MEMORY, batch_size=2, rank=64, optimizer="Lion").value == pytest.approx(7_000)


def test_on_the_host_a_rank_takes_only_what_was_seen() -> None:
    host = Metric.PEAK_HOST_MEMORY_MIB
    runs = [fact(host, 5_000 + 1_000 * batch, conditions(batch_size=batch)) for batch in (1, 2, 4)]
    assert estimate(runs, host, batch_size=2, rank=64).value == pytest.approx(7_000)


def test_the_steps_of_one_run_tell_how_memory_grows_and_count_as_one_run() -> None:
    pairs = [
        fact(
            MEMORY, 5_000 + 2 * tokens, conditions(longest_batch_tokens=tokens, longest_sequence=100), run="a"
        )
        for tokens in range(100, 400, 20)
    ]
    found = estimate(pairs, MEMORY, batch_size=3)
    assert (found.value, found.n) == (pytest.approx(5_600), 1)


def test_the_weights_are_never_a_peak() -> None:
    after_init = fact(Metric.MEMORY_AFTER_INIT_MIB, 2_400, conditions())
    found = estimate([after_init], MEMORY)
    assert found.value is None and found.low == pytest.approx(2_400)
    assert "weights" in found.note


def test_running_out_of_memory_is_never_averaged_and_lifts_estimates_above_it() -> None:
    runs = [peak(500 + 1_000 * batch, batch_size=batch) for batch in (1, 2, 4)]
    bound = peak(20_000, bound=True, batch_size=8)
    assert estimate([*runs, bound], MEMORY, batch_size=3).value == pytest.approx(3_500)
    lifted = estimate([*runs, bound], MEMORY, batch_size=8)
    assert lifted.value is not None and lifted.value > 20_000 and bound.id in lifted.observations
    assert estimate([*runs, bound], MEMORY, batch_size=16).value > 20_000


def test_a_bound_alone_is_no_value() -> None:
    found = estimate([peak(20_000, bound=True)], MEMORY)
    assert (found.value, found.low, found.grade) == (None, 20_000, Grade.NONE)


def test_a_bound_of_a_higher_rank_does_not_hold_for_a_lower() -> None:
    found = estimate([peak(1_000, rank=4), peak(20_000, bound=True, rank=64)], MEMORY, rank=4)
    assert found.value == pytest.approx(1_000)


# Intervals


def test_without_enough_finished_runs_there_are_no_bounds() -> None:
    errors = [(str(TIME), "measured", 0.1)] * 7
    found = figure(Evidence([step(0.5)], errors), conditions(), TIME)
    assert (found.low, found.high) == (None, None)


def test_the_interval_comes_from_errors_of_the_same_figure_and_grade() -> None:
    errors = [(str(TIME), "measured", sign * 0.1) for sign in (1, -1) * 5]
    others = [(str(TIME), "told", 3.0)] * 10 + [(str(MEMORY), "measured", 3.0)] * 10
    found = figure(Evidence([step(0.5)], [*errors, *others]), conditions(), TIME)
    # Student's t for 9 degrees of freedom at 95 % is 1.833; s = 0.1054, sqrt(1 + 1/10) = 1.0488.
    assert found.high == pytest.approx(0.5 * 2.718281828 ** (1.8331 * 0.10541 * 1.04881), rel=1e-4)
    assert found.low == pytest.approx(0.25 / found.high)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=30))
def test_the_value_lies_within_its_interval(logs: list[float]) -> None:
    errors = [(str(TIME), "measured", error) for error in logs]
    found = figure(Evidence([step(0.5)], errors), conditions(), TIME)
    assert found.low is not None and found.high is not None
    assert found.low <= 0.5 <= found.high


# What could not be used


def test_what_is_not_known_of_the_run_is_named() -> None:
    found = estimate(affine_steps(), tokens_per_step=None)
    assert found.value is None and "tokens_per_step" in found.note


def test_a_model_that_nobody_ran_is_said_to_be_one() -> None:
    assert why_not(Evidence([]), conditions(), TIME) == ["No run of this model was measured or told of."]


def test_what_is_used_needs_no_reason() -> None:
    assert why_not(Evidence([step(0.5)]), conditions(), TIME) == []


def test_each_difference_gets_a_sentence_with_the_runs_it_keeps_out() -> None:
    facts = [step(0.5, packed=True), step(0.5, packed=True), step(0.4, **A100), step(0.3, cpu_threads=2)]
    sentences = why_not(Evidence(facts), conditions(), TIME)
    assert any(line.startswith("2 runs not used: packed") for line in sentences)
    assert any("NVIDIA A100" in line for line in sentences)
    assert any("cpu_threads is 2, and here 8" in line for line in sentences)


def test_a_figure_that_is_not_estimated_has_none() -> None:
    assert figure(Evidence([]), Conditions(), "exact_match").value is None
