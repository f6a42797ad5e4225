"""Least squares with the terms that data speak for."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.conditions import Metric
from experiments.estimation import Evidence, Fact, figure
from experiments.estimation.calibrated import Fitted, groups
from experiments.estimation.fitting import NO_HELP, NOT_KNOWN, NOT_VARIED, TOO_FEW_RUNS
from tests.unit.estimation_facts import conditions, fact, step

TIME, MEMORY = Metric.SECONDS_PER_STEP, Metric.PEAK_DEVICE_MEMORY_MIB
CONFIGURATIONS = [
    {"batch_size": batch, "gradient_accumulation_steps": many, "length": length}
    for batch in (1, 4, 8)
    for many in (1, 2, 4)
    for length in (50.0, 200.0)
]


def fitted(facts: list[Fact]) -> Fitted:
    (group,) = groups(Evidence(facts))
    found = group.fitted()
    assert found is not None
    return found


def seconds(beta: float, alpha: float, gamma: float = 0.0, delta: float = 0.0, **fields: float) -> Fact:
    under = conditions(**fields)
    value = (
        gamma
        + alpha * under.gradient_accumulation_steps
        + beta * under.tokens_per_step
        + delta * under.squares_per_step
    )
    return fact(TIME, value, under)


@given(
    beta=st.floats(1e-5, 1e-2),
    alpha=st.floats(0.01, 1.0),
    gamma=st.floats(0.0, 1.0),
    delta=st.floats(0.0, 1e-4),
)
@settings(deadline=None)
def test_runs_without_noise_are_predicted_exactly(
    beta: float, alpha: float, gamma: float, delta: float
) -> None:
    facts = [seconds(beta, alpha, gamma, delta, **fields) for fields in CONFIGURATIONS]
    asked = {"batch_size": 2, "gradient_accumulation_steps": 3, "length": 120.0}
    expected = seconds(beta, alpha, gamma, delta, **asked).value
    found = figure(Evidence(facts), conditions(**asked), TIME)
    assert found.value == pytest.approx(expected, rel=1e-2)
    if min(gamma, delta * 10_000) > 0.05 * expected:
        assert found.value == pytest.approx(expected, rel=1e-5)


def test_the_coefficients_are_those_of_the_formula() -> None:
    found = fitted([seconds(0.001, 0.2, 0.3, 1e-5, **fields) for fields in CONFIGURATIONS])
    assert found.coefficients == pytest.approx(
        {"per token": 0.001, "per micro-batch": 0.2, "per step": 0.3, "per squared token": 1e-5}, rel=1e-5
    )
    assert found.error_ratio == pytest.approx(0.0, abs=1e-6)
    assert found.valid_from["tokens_per_step"] == 50 and found.valid_to["tokens_per_step"] == 6400


@given(noise=st.lists(st.floats(-0.9, 0.9), min_size=18, max_size=18))
@settings(deadline=None, max_examples=50)
def test_no_coefficient_is_ever_negative(noise: list[float]) -> None:
    facts = [step(0.5 * (1 + error), **fields) for error, fields in zip(noise, CONFIGURATIONS, strict=True)]
    found = fitted(facts)
    assert found.coefficients and min(found.coefficients.values()) > 0
    assert all(figure(Evidence(facts), fact.conditions, TIME).value for fact in facts)


def test_what_the_data_cannot_tell_is_left_out_and_said() -> None:
    facts = [seconds(0.001, 0.2, batch_size=batch, length=100.0) for batch in (1, 2, 4, 8, 16)]
    found = fitted(facts)
    assert set(found.coefficients) == {"per token", "per micro-batch"}
    assert f"per step: {NOT_VARIED}" in found.left_out
    assert f"per squared token: {NOT_VARIED}" in found.left_out


def test_a_term_that_only_fits_noise_is_left_out() -> None:
    chance = np.random.default_rng(0)
    facts = [
        fact(
            TIME,
            seconds(0.001, 0.2, **fields).value * chance.normal(1, 0.02),
            conditions(rank=rank, **fields),
        )
        for fields in CONFIGURATIONS
        for rank in (4, 64)
    ]
    found = fitted(facts)
    assert f"per trainable parameter: {NO_HELP}" in found.left_out
    assert 0.005 < (found.error_ratio or 0) < 0.03


def test_few_runs_get_no_further_term() -> None:
    facts = [seconds(0.001, 0.2, 0.0, 1e-5, batch_size=1, length=length) for length in (50.0, 100.0, 400.0)]
    assert f"per squared token: {TOO_FEW_RUNS}" in fitted(facts).left_out


def test_what_some_logs_do_not_tell_is_left_out() -> None:
    facts = [seconds(0.001, 0.2, **fields) for fields in CONFIGURATIONS]
    silent = fact(TIME, 0.001 * 400 + 0.2, conditions(squares_per_step=None))
    assert f"per squared token: {NOT_KNOWN}" in fitted([*facts, silent]).left_out


def test_a_run_with_many_facts_weighs_as_much_as_another() -> None:
    often = [fact(Metric.STARTUP_SECONDS, 10.0, conditions(), run="a") for _ in range(10)]
    once = fact(Metric.STARTUP_SECONDS, 20.0, conditions(), run="b")
    found = fitted([*often, once])
    # Relative errors of a constant c: (10 - c)^2 / 100 + (20 - c)^2 / 400 is least at c = 12.
    assert found.coefficients == pytest.approx({"constant": 12.0})
    assert found.runs == 2


@given(st.integers(0, 17))
@settings(deadline=None, max_examples=18)
def test_the_error_is_that_of_runs_that_were_left_out(index: int) -> None:
    chance = np.random.default_rng(index)
    facts = [
        fact(TIME, seconds(0.001, 0.2, **fields).value * chance.normal(1, 0.05), conditions(**fields))
        for fields in CONFIGURATIONS
    ]
    assume("per squared token" not in fitted(facts).coefficients)
    errors = []
    for left_out in facts:
        others = [other for other in facts if other is not left_out]
        again = fitted(others)
        if set(again.coefficients) != set(fitted(facts).coefficients):
            return
        predicted = sum(
            value
            * {"per token": left_out.conditions.tokens_per_step}.get(
                name, left_out.conditions.gradient_accumulation_steps if name == "per micro-batch" else 1.0
            )
            for name, value in again.coefficients.items()
        )
        errors.append(abs(left_out.value - predicted) / left_out.value)
    assert fitted(facts).error_ratio == pytest.approx(float(np.mean(errors)), rel=1e-6)


def test_only_the_models_that_are_asked_for_are_fitted() -> None:
    facts = [
        step(0.1),
        step(0.2, batch_size=8),
        step(0.3, model_shape="other"),
        step(0.4, model_shape="other"),
    ]
    assert [group.shared["model_shape"] for group in groups(Evidence(facts), shapes=["other"])] == ["other"]
