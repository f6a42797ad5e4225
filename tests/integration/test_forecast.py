"""When the queue, or a plan, would be done, and when what waits is expected to start."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from experiments.models import Experiment, Run
from experiments.states import RunState
from scheduler.queries import waiting_reasons
from tests.factories import (
    make_cell,
    make_device,
    make_estimate,
    make_experiment,
    make_job,
    make_node,
    make_run,
)

pytestmark = pytest.mark.django_db


def queued(seconds: float | None, *, experiment: Experiment | None = None, **fields: Any) -> Run:
    experiment = experiment or make_experiment(approved=True)
    run = make_run(
        cell=make_cell(experiment=experiment),
        state=RunState.QUEUED,
        kind="command",
        limit_seconds=3600,
        **fields,
    )
    if seconds is not None:
        make_estimate(run=run, value=seconds)
    return run


def busy_device(seconds: float | None) -> None:
    """One device of one node, held by a job that has just begun."""
    run = make_run(
        cell=make_cell(experiment=make_experiment(approved=True)), state=RunState.RUNNING, kind="command"
    )
    if seconds is not None:
        make_estimate(run=run, value=seconds)
    now = timezone.now()
    make_job(runs=[run], devices=[make_device()], limit_seconds=7200, started_at=now, placed_at=now)


def forecast(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    call_command("forecast", *arguments, "--json")
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["experiments"]
    return found


def seconds_to(text: str | None) -> float:
    assert text is not None
    return (datetime.fromisoformat(text) - timezone.now()).total_seconds()


def test_what_waits_says_when_it_is_expected_to_start() -> None:
    busy_device(600)
    run = queued(60)
    at = timezone.localtime(timezone.now() + timedelta(seconds=600))
    expected = {f"{at + timedelta(seconds=s):%H:%M}" for s in (-60, 0)}
    reason = waiting_reasons()[run.pk]
    assert any(reason.endswith(f"expected to start {clock}") for clock in expected), reason


def test_behind_what_has_no_estimate_the_latest_start_is_told() -> None:
    busy_device(None)
    run = queued(60)
    assert waiting_reasons()[run.pk].endswith("at the latest")


def test_a_queue_is_forecast_by_estimates_and_else_by_limits(capsys: pytest.CaptureFixture[str]) -> None:
    busy_device(600)
    known, unknown = queued(60), queued(None)
    first, second = forecast(capsys=capsys)
    assert first["experiment"] == known.cell.experiment.name and first["without_estimate"] == 0
    assert second["experiment"] == unknown.cell.experiment.name and second["without_estimate"] == 1
    assert seconds_to(first["start_at"]) == pytest.approx(600, abs=30)
    assert seconds_to(first["end_at"]) == pytest.approx(660, abs=30)
    assert seconds_to(second["end_at"]) == pytest.approx(660 + 3600, abs=30)


def test_other_hardware_is_free_at_once_and_keeps_the_windows(capsys: pytest.CaptureFixture[str]) -> None:
    busy_device(6000)
    experiment = make_experiment(approved=True, max_parallel=2, open_jobs=2)
    for _ in range(4):
        queued(100, experiment=experiment)
    (found,) = forecast("--devices", "8x80GiB", capsys=capsys)
    assert seconds_to(found["end_at"]) == pytest.approx(200, abs=30)


def test_a_draft_is_forecast_behind_the_queue(capsys: pytest.CaptureFixture[str]) -> None:
    make_device()
    queued(300)
    draft = make_experiment(name="draft")
    planned = make_run(cell=make_cell(experiment=draft), kind="command")
    make_estimate(run=planned, value=60)
    (found,) = forecast("draft", capsys=capsys)
    assert (found["experiment"], found["runs"], found["never"]) == ("draft", 1, 0)
    assert seconds_to(found["start_at"]) == pytest.approx(300, abs=30)


def test_what_no_node_could_hold_is_said_never_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    make_device(node=make_node())
    run = queued(60, devices=4)
    call_command("forecast")
    assert f"{run.cell.experiment.name}: 1 run; 1 would never start" in capsys.readouterr().out


def test_an_evaluation_counts_from_the_end_of_its_fine_tune(capsys: pytest.CaptureFixture[str]) -> None:
    make_device(), make_device()
    experiment = make_experiment(approved=True)
    tuned = queued(100, experiment=experiment)
    queued(50, experiment=experiment, depends_on=tuned, ready_at=None, turn_at=None)
    (found,) = forecast(experiment.name, capsys=capsys)
    assert seconds_to(found["end_at"]) == pytest.approx(150, abs=30)


def test_a_run_of_high_priority_passes_what_waits_less_than_its_hours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_device()
    queued(600)
    urgent = queued(60, priority=5, turn_at=timezone.now() - timedelta(days=1000))
    by_name = {found["experiment"]: found for found in forecast(capsys=capsys)}
    assert seconds_to(by_name[urgent.cell.experiment.name]["start_at"]) < 30


def test_an_empty_queue_and_bad_devices_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("forecast")
    assert "Nothing is queued." in capsys.readouterr().out
    queued(60)
    with pytest.raises(CommandError, match="'eight' is not like 8x80GiB"):
        call_command("forecast", "--devices", "eight")
