"""Automatic windows against a real database: what makes them grow, and what halves them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from experiments import planning, steering
from experiments.models import Experiment, Run
from experiments.specs import Outcome
from experiments.states import OPEN_JOB_STATES, FinishReason, RunState
from scheduler import auto_windows, dispatch, ending
from scheduler.models import Device, Job
from scheduler.window_rule import PROVEN_AFTER_SECONDS
from tests.factories import make_cell, make_device, make_estimate, make_experiment, make_node, make_run
from tests.integration.api_client import simulated

pytestmark = pytest.mark.django_db(transaction=True)

START = timezone.now()
LATER = timedelta(seconds=PROVEN_AFTER_SECONDS)
GOOD = Outcome(succeeded=True)
TOO_LARGE = Outcome(succeeded=False, reason=FinishReason.OUT_OF_MEMORY, message="It ran out of memory.")


def automatic(*, runs: int, devices: int, window: int = 1, name: str = "ranks") -> Experiment:
    experiment = make_experiment(name=name, approved=True, max_parallel=window, max_parallel_is_auto=True)
    cell, node = make_cell(experiment=experiment), make_node(is_simulated=True)
    for _ in range(devices):
        make_device(node=node, kind=Device.Kind.SIMULATED)
    for _ in range(runs):
        make_run(cell=cell, state=RunState.QUEUED)
    return experiment


def tick(now: datetime) -> int:
    return dispatch.tick(now=now, send=lambda job: None)


def end(jobs: Sequence[Job], outcome: Outcome, now: datetime) -> None:
    for job in jobs:
        outcomes = dict.fromkeys(job.launches.values_list("run", flat=True), outcome)
        ending.end_job(job=job, record=None, outcomes=outcomes, log_tail="", now=now)


def open_jobs() -> list[Job]:
    return list(Job.objects.filter(state__in=OPEN_JOB_STATES).order_by("pk"))


def window() -> int:
    return Experiment.objects.get(name="ranks").max_parallel


def grow(to: int) -> datetime:
    """Until so many jobs run; returns when."""
    now = START
    tick(now)
    for _ in range(1, to):
        now += LATER
        tick(now)
    assert window() == to
    return now


def test_it_grows_by_one_when_a_run_has_gone_well_for_long() -> None:
    automatic(runs=8, devices=4)
    assert (tick(START), tick(START + LATER / 2)) == (1, 0)
    assert (tick(START + LATER), window()) == (1, 2)
    assert (tick(START + LATER * 1.5), window()) == (0, 2)
    assert (tick(START + LATER * 2), window()) == (1, 3)


def test_a_success_proves_it_at_once() -> None:
    automatic(runs=8, devices=4)
    tick(START)
    end(open_jobs(), GOOD, START + timedelta(seconds=1))
    assert tick(START + timedelta(seconds=2)) == 1
    assert (tick(START + timedelta(seconds=3)), window()) == (1, 2)
    assert (tick(START + timedelta(seconds=4)), window()) == (0, 2)  # nothing has succeeded since


def test_it_does_not_grow_while_no_device_idles_nor_beyond_the_devices() -> None:
    automatic(runs=8, devices=2)
    now = grow(2)
    for _ in range(3):
        now += LATER
        assert (tick(now), window()) == (0, 2)


def test_what_a_lost_device_took_of_it_comes_back_with_the_device() -> None:
    automatic(runs=8, devices=3)
    now = grow(3)
    gone = Device.objects.filter(allocated_mib__gt=0)[:1].get()
    Device.objects.filter(pk=gone.pk).update(state=Device.State.GONE)
    tick(now + LATER)
    assert window() == 2
    end(open_jobs()[:1], GOOD, now + LATER)  # a place for it, and a device
    Device.objects.filter(pk=gone.pk).update(state=Device.State.AVAILABLE)
    tick(now + LATER + timedelta(seconds=1))
    tick(now + LATER + timedelta(seconds=2))
    assert window() == 3


def test_it_does_not_grow_where_nothing_more_would_start() -> None:
    experiment = automatic(runs=1, devices=4)
    tick(START)
    make_run(cell=make_cell(experiment=experiment), state=RunState.QUEUED, devices=4)
    assert (tick(START + LATER), window()) == (0, 1)


def test_it_halves_once_for_a_burst_and_nothing_starts_until_enough_have_ended() -> None:
    automatic(runs=20, devices=8)
    now = grow(4)
    jobs = open_jobs()
    assert len(jobs) == 4
    end(jobs[:1], TOO_LARGE, now)
    assert (tick(now + timedelta(seconds=1)), window()) == (0, 2)
    end(jobs[1:2], TOO_LARGE, now + timedelta(seconds=2))  # it was started before the window was halved
    assert (tick(now + timedelta(seconds=3)), window()) == (0, 2)
    end(jobs[2:3], GOOD, now + timedelta(seconds=4))
    assert (tick(now + timedelta(seconds=5)), window()) == (1, 2)


def test_a_run_that_was_started_after_it_was_halved_halves_it_again() -> None:
    automatic(runs=20, devices=8)
    now = grow(4)
    end(open_jobs(), TOO_LARGE, now)
    assert (tick(now + timedelta(seconds=1)), window()) == (2, 2)
    end(open_jobs()[:1], TOO_LARGE, now + timedelta(seconds=2))
    assert (tick(now + timedelta(seconds=3)), window()) == (0, 1)
    end(open_jobs(), TOO_LARGE, now + timedelta(seconds=4))
    assert (tick(now + timedelta(seconds=5)), window()) == (1, 1)  # never nothing


def test_it_is_halved_before_an_agent_refills_what_ran_out_of_memory() -> None:
    automatic(runs=8, devices=4, window=4)
    assert tick(START) == 4
    first, *_ = open_jobs()
    end([first], TOO_LARGE, START + LATER)
    assert window() == 2
    node_id = Device.objects.all()[0].node_id
    refilled = dispatch.tick(
        now=START + LATER, send=lambda job: None, pool="", most=32, claiming_node_id=node_id
    )
    assert (refilled, len(open_jobs())) == (0, 3)


def test_after_it_was_halved_only_a_later_run_lets_it_grow() -> None:
    automatic(runs=20, devices=8)
    now = grow(4)
    end(open_jobs()[:3], TOO_LARGE, now + timedelta(seconds=0.5))
    assert (tick(now + timedelta(seconds=1)), window()) == (1, 2)
    end(open_jobs()[:1], GOOD, now + timedelta(seconds=2))  # an earlier one
    assert (tick(now + timedelta(seconds=3)), window()) == (1, 2)
    assert (tick(now + timedelta(seconds=4)), window()) == (0, 2)
    assert (tick(now + timedelta(seconds=1) + LATER), window()) == (1, 3)


def test_a_run_that_is_queued_again_after_it_ran_out_of_memory_counts_too() -> None:
    automatic(runs=20, devices=8)
    now = grow(4)
    run = Run.objects.filter(state=RunState.RUNNING).first()
    assert run
    run.events.create(at=now, state=RunState.QUEUED, reason=FinishReason.OUT_OF_MEMORY)
    tick(now + timedelta(seconds=1))
    assert window() == 2


def test_two_that_could_use_the_same_device_do_not_both_grow() -> None:
    automatic(runs=4, devices=3)
    automatic(runs=4, devices=0, name="other")
    assert tick(START) == 2
    assert tick(START + LATER) == 1
    assert sorted(Experiment.objects.values_list("max_parallel", flat=True)) == [1, 2]


@pytest.mark.parametrize("meanwhile", [{"max_parallel_is_auto": False}, {"window_changed_at": START}])
def test_a_window_that_somebody_else_moved_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, meanwhile: dict[str, object]
) -> None:
    automatic(runs=4, devices=3)
    tick(START)
    proven = auto_windows._is_proven

    def while_it_is_moved(of: Experiment, now: datetime) -> bool:
        Experiment.objects.filter(pk=of.pk).update(max_parallel=3, **meanwhile)
        return proven(of, now)

    monkeypatch.setattr(auto_windows, "_is_proven", while_it_is_moved)
    auto_windows.adjust(now=START + LATER)
    assert window() == 3


def test_a_ticks_front_of_the_queue_has_what_only_its_window_holds() -> None:
    automatic(runs=4, devices=3)
    tick(START)
    assert dispatch.tick(now=START + LATER, send=lambda job: None, pool="", most=2) == 1


def test_a_paused_experiment_and_a_set_number_are_not_moved() -> None:
    experiment = automatic(runs=8, devices=4, window=2)
    tick(START)
    steering.pause(experiment=experiment, user=None, now=START)
    tick(START + LATER)
    assert window() == 2
    steering.unpause(experiment=experiment, user=None, now=timezone.now())
    call_command("window", "ranks", "2")
    tick(START + LATER)
    assert window() == 2


def test_a_window_that_is_made_automatic_goes_on_from_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = automatic(runs=9, devices=8)
    Experiment.objects.update(max_parallel=4, max_parallel_is_auto=False)
    tick(START)
    end(open_jobs()[:1], TOO_LARGE, START)
    call_command("window", "ranks", "auto")
    assert capsys.readouterr().out == "ranks: at most 4 at a time, moved automatically.\n"
    tick(timezone.now()), tick(timezone.now() + LATER)
    assert window() == 5  # what ran out of memory before is forgotten
    experiment.refresh_from_db()
    assert experiment.max_parallel_is_auto


def test_a_document_says_auto_and_its_plan_says_what_that_is_taken_for() -> None:
    make_device(node=make_node(is_simulated=True), kind=Device.Kind.SIMULATED)
    now = timezone.now()
    plan = planning.plan(data=simulated(max_parallel="auto"), user=None, now=now)
    experiment = planning.store(plan=plan, user=None, now=now)
    assert (experiment.max_parallel, experiment.max_parallel_is_auto) == (1, True)
    assert any("max_parallel is auto" in note and "as if it had grown" in note for note in experiment.notes)
    again = planning.plan(data=simulated(max_parallel=3), user=None, now=now)
    experiment = planning.store(plan=again, user=None, now=now)
    assert (experiment.max_parallel, experiment.max_parallel_is_auto) == (3, False)


def test_a_forecast_takes_it_to_have_grown_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    experiment = automatic(runs=4, devices=4)
    for run in Run.objects.filter(cell__experiment=experiment):
        make_estimate(run=run, value=3600)
    for devices in ((), ("--devices", "4x1GiB")):
        call_command("forecast", *devices)
        told = capsys.readouterr().out.splitlines()[0]
        assert told.endswith("; as if its automatic window had grown already")
        begins, _, ends = told.partition(", ")[2].partition(";")[0].partition(" to ")
        assert datetime.fromisoformat(ends) - datetime.fromisoformat(begins) <= timedelta(minutes=61)
