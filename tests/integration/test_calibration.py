"""Observations become evidence and calibrations; estimates meet what then happened."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from experiments import calibration
from experiments.conditions import Conditions, Metric, to_columns
from experiments.estimation import Evidence, figure
from experiments.figures import Grade
from experiments.models import Calibration, Estimate, Observation, Run
from experiments.states import RunState
from tests.factories import NOW, make_observation, make_run
from tests.unit.estimation_facts import THREE_B, conditions

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=1)
TIME, MEMORY = Metric.SECONDS_PER_STEP, Metric.PEAK_DEVICE_MEMORY_MIB


def observe(metric: str, value: float, under: Conditions, **fields: Any) -> Observation:
    return make_observation(metric=metric, value=value, unit="", **to_columns(under), **fields)


def observe_batches(**fields: Any) -> list[Observation]:
    return [
        observe(TIME, 0.1 + 0.1 * batch, conditions(batch_size=batch, **fields), run=make_run())
        for batch in (1, 2, 4, 8)
    ]


def make_estimate(run: Run, metric: str, value: float | None, grade: str = "measured") -> Estimate:
    return Estimate.objects.create(run=run, metric=metric, value=value, grade=grade)


# Evidence


def test_complete_observations_are_evidence_with_their_ids_and_conditions() -> None:
    observed = observe(TIME, 0.5, conditions(), run=make_run())
    found = figure(calibration.evidence(), conditions(), TIME)
    assert (found.grade, found.value, found.observations) == (Grade.MEASURED, 0.5, (observed.pk,))


def test_incomplete_observations_are_used_for_nothing() -> None:
    observe(TIME, 0.5, conditions(), is_complete=False)
    assert figure(calibration.evidence(), conditions(), TIME).value is None


def test_bounds_and_what_was_told_stay_what_they_are() -> None:
    observe(MEMORY, 40_000.0, conditions(), is_bound=True)
    observe(TIME, 0.5, Conditions(batch_size=4), told_by="owner")
    evidence = calibration.evidence()
    assert figure(evidence, conditions(), MEMORY).value is None
    assert figure(evidence, conditions(), TIME).grade == Grade.TOLD


def test_observations_of_a_run_are_one_run_and_so_are_those_of_a_harvested_file() -> None:
    run = make_run()
    for _ in range(2):
        observe(TIME, 0.5, conditions(), run=run)
        observe(TIME, 0.5, conditions(), source_file="/old/slurm-1.out")
    observe(TIME, 0.5, conditions(), source_file="/old/slurm-2.out")
    assert figure(calibration.evidence(), conditions(), TIME).n == 3


def test_evidence_may_be_of_some_models_only() -> None:
    observe(TIME, 0.5, conditions())
    observe(TIME, 0.9, conditions(model_shape=THREE_B))
    evidence = calibration.evidence(shapes=[THREE_B])
    assert [fact.conditions.model_shape for fact in evidence.facts] == [THREE_B]


def test_equal_conditions_are_made_once_and_all_is_read_at_once(django_assert_num_queries: Any) -> None:
    for _ in range(3):
        observe(TIME, 0.5, conditions())
    with django_assert_num_queries(2):
        evidence = calibration.evidence()
    assert len({id(fact.conditions) for fact in evidence.facts}) == 1


# Calibrations


def test_a_calibration_says_what_was_fitted_to_what() -> None:
    observed = observe_batches()
    assert calibration.refit(now=NOW) == 1
    row = Calibration.objects.get()
    assert (row.metric, row.model_name, row.device_kind) == (TIME, "Llama", "NVIDIA H100")
    assert row.coefficients == pytest.approx({"per token": 0.001, "per micro-batch": 0.1})
    assert any(text.startswith("per trainable parameter: ") for text in row.left_out)
    assert row.error_ratio == pytest.approx(0, abs=1e-6)
    assert row.runs_count == 4
    assert (row.valid_from["tokens_per_step"], row.valid_to["tokens_per_step"]) == (100, 800)
    assert set(row.observations.all()) == set(observed)
    assert row.shared["packed"] is False and "batch_size" not in row.shared
    assert row.fitted_at == NOW


def test_runs_under_other_conditions_get_a_calibration_of_their_own() -> None:
    observe_batches()
    observe_batches(packed=True)
    assert calibration.refit(now=NOW) == 2


def test_what_did_not_change_is_left_alone() -> None:
    observe_batches()
    observe_batches(packed=True)
    calibration.refit(now=NOW)
    observe(TIME, 1.7, conditions(batch_size=16), run=make_run())
    assert calibration.refit(now=LATER) == 1
    assert sorted(Calibration.objects.values_list("runs_count", "fitted_at")) == [(4, NOW), (5, LATER)]


def test_a_calibration_whose_observations_are_gone_goes() -> None:
    observe_batches()
    calibration.refit(now=NOW)
    Observation.objects.all().delete()
    assert calibration.refit(now=LATER) == 0
    assert not Calibration.objects.exists()


def test_bounds_and_told_figures_are_not_fitted() -> None:
    for batch in (1, 2, 4):
        observe(MEMORY, 1_000.0 * batch, conditions(batch_size=batch), is_bound=True)
        observe(TIME, 0.1 * batch, conditions(batch_size=batch), told_by="owner")
    assert calibration.refit(now=NOW) == 0


def test_only_the_models_that_are_named_are_touched() -> None:
    observe_batches()
    observe_batches(model_shape=THREE_B)
    calibration.refit(now=NOW)
    Observation.objects.all().delete()
    calibration.refit(now=LATER, shapes=[THREE_B])
    assert Calibration.objects.get().model_shape == conditions().model_shape


def test_the_command_says_how_many_were_fitted() -> None:
    observe_batches()
    out = StringIO()
    call_command("recalibrate", stdout=out)
    assert out.getvalue() == "1 calibration fitted anew.\n"
    call_command("recalibrate", "--shape", "another", stdout=out)
    assert out.getvalue().endswith("0 calibrations fitted anew.\n")
    assert Calibration.objects.count() == 1


# Estimates and what then happened


def test_what_a_run_took_is_set_beside_what_was_estimated_of_it() -> None:
    run = make_run(state=RunState.SUCCEEDED)
    make_estimate(run, "seconds", 100.0)
    make_estimate(run, MEMORY, 9_000.0)
    make_estimate(run, "disk_mib", 50.0)
    observe(Metric.JOB_SECONDS, 120.0, conditions(), run=run)
    for mib in (8_000.0, 9_500.0):
        observe(MEMORY, mib, conditions(), run=run)
    assert calibration.compare(run=run, now=LATER) == 2
    compared = dict(run.estimates.filter(compared_at=LATER).values_list("metric", "actual"))
    assert compared == {"seconds": 120.0, MEMORY: 9_500.0}
    assert run.estimates.get(metric="disk_mib").compared_at is None


def test_an_estimate_is_compared_once() -> None:
    run = make_run(state=RunState.SUCCEEDED)
    make_estimate(run, "seconds", 100.0)
    observe(Metric.JOB_SECONDS, 120.0, conditions(), run=run)
    calibration.compare(run=run, now=NOW)
    observe(Metric.JOB_SECONDS, 999.0, conditions(), run=run, observed_at=LATER)
    assert calibration.compare(run=run, now=LATER) == 0
    assert run.estimates.get().actual == 120.0


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.FAILED])
def test_a_run_that_did_not_succeed_says_nothing_of_what_a_whole_one_takes(state: RunState) -> None:
    run = make_run(state=state)
    make_estimate(run, "seconds", 100.0)
    observe(Metric.JOB_SECONDS, 5.0, conditions(), run=run)
    assert calibration.compare(run=run, now=NOW) == 0


def test_a_bound_is_never_taken_for_what_a_run_took() -> None:
    run = make_run(state=RunState.SUCCEEDED)
    make_estimate(run, MEMORY, 9_000.0)
    observe(MEMORY, 40_000.0, conditions(), run=run, is_bound=True)
    assert calibration.compare(run=run, now=NOW) == 0


def test_the_planners_error_is_kept_by_figure_and_grade() -> None:
    for value, actual in ((100.0, 80.0), (100.0, 125.0)):
        estimate = make_estimate(make_run(), "seconds", value)
        Estimate.objects.filter(pk=estimate.pk).update(actual=actual, compared_at=NOW)
    make_estimate(make_run(), "seconds", 100.0, grade="told")
    (error,) = calibration.planner_error()
    assert (error.metric, error.grade, error.n) == ("seconds", "measured", 2)
    assert error.mean_absolute_error == pytest.approx((0.25 + 0.2) / 2)
    assert error.bias == pytest.approx((0.25 - 0.2) / 2)


def test_past_errors_give_the_next_estimate_its_interval() -> None:
    observe(TIME, 0.5, conditions())
    for actual in (0.45, 0.5, 0.55) * 3:
        estimate = make_estimate(make_run(), TIME, 0.5)
        Estimate.objects.filter(pk=estimate.pk).update(actual=actual, compared_at=NOW)
    found = figure(calibration.evidence(), conditions(), TIME)
    assert found.low is not None and found.low < 0.45 < 0.55 < (found.high or 0)


def test_figures_without_a_value_give_no_error() -> None:
    estimate = make_estimate(make_run(), "seconds", None, grade="none")
    Estimate.objects.filter(pk=estimate.pk).update(actual=5.0, compared_at=NOW)
    assert calibration.planner_error() == []
    assert isinstance(calibration.evidence(), Evidence)
