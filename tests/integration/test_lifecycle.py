"""Transitions of runs: guarded, explained, and refused to stale jobs."""

import pytest

from experiments import lifecycle
from experiments.models import Run, RunEvent
from experiments.retries import Circumstances
from experiments.specs import Outcome
from experiments.states import MAX_LAUNCHES, FinishReason, RunState
from tests.factories import NOW, make_cell, make_experiment, make_run

pytestmark = pytest.mark.django_db

LOST = Outcome(succeeded=False, reason=FinishReason.SUPERVISOR_LOST, message="It disappeared.")
BROKEN = Outcome(succeeded=False, reason=FinishReason.EXIT_CODE, message="Exit code 1.")
GOOD = Outcome(succeeded=True)


def finish(run: Run, outcome: Outcome, *, job_id: int = 1, **around: bool) -> bool:
    return lifecycle.finish(
        run_id=run.pk,
        job_id=job_id,
        outcome=outcome,
        log_tail="last line",
        around=Circumstances(node_name="a", **around),
        now=NOW,
    )


def start(run: Run, *, job_id: int) -> int:
    return lifecycle.start(job_of={run.pk: job_id}, token=job_id, directory="/x", now=NOW)


def test_approval_queues_every_run_once() -> None:
    experiment = make_experiment()
    cell = make_cell(experiment=experiment)
    first = make_run(cell=cell)
    make_run(cell=cell, depends_on=first)
    assert lifecycle.approve(experiment=experiment, user=None, now=NOW) == 2
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.QUEUED}
    with pytest.raises(lifecycle.NotADraft, match="approved already"):
        lifecycle.approve(experiment=experiment, user=None, now=NOW)


def test_of_runs_that_start_together_only_those_that_were_queued_have_an_event() -> None:
    queued, cancelled = make_run(state=RunState.QUEUED), make_run(state=RunState.CANCELLED)
    job_of = {queued.pk: 7, cancelled.pk: 7}
    assert lifecycle.start(job_of=job_of, token=7, directory="/x", now=NOW) == 1
    assert [event.run_id for event in RunEvent.objects.filter(state=RunState.RUNNING)] == [queued.pk]


def test_a_queued_run_is_started_once() -> None:
    run = make_run(state=RunState.QUEUED)
    assert start(run, job_id=7) == 1
    assert start(run, job_id=8) == 0
    run.refresh_from_db()
    assert (run.state, run.fencing_token, run.launches_count) == (RunState.RUNNING, 7, 1)


def test_the_result_of_a_stale_job_changes_nothing() -> None:
    run = make_run(state=RunState.RUNNING, fencing_token=2)
    assert finish(run, GOOD, job_id=1) is False
    run.refresh_from_db()
    assert run.state == RunState.RUNNING


def test_a_stale_job_that_was_lost_queues_nothing_again() -> None:
    run = make_run(state=RunState.RUNNING, fencing_token=2)
    assert finish(run, LOST, job_id=1) is False
    run.refresh_from_db()
    assert (run.state, run.fencing_token) == (RunState.RUNNING, 2)


def test_a_run_ends_once() -> None:
    run = make_run(state=RunState.RUNNING)
    assert finish(run, GOOD) is True
    assert finish(run, BROKEN) is False
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("outcome", "state"), [(GOOD, RunState.SUCCEEDED), (BROKEN, RunState.FAILED), (LOST, RunState.QUEUED)]
)
def test_the_event_of_an_ending_names_the_job_that_ended_it(outcome: Outcome, state: RunState) -> None:
    run = make_run(state=RunState.QUEUED)
    start(run, job_id=7)
    finish(run, outcome, job_id=7)
    assert list(run.events.values_list("state", "job_id"))[-2:] == [("RUNNING", 7), (state, 7)]


def test_runs_that_succeed_together_each_name_their_job() -> None:
    job_of = {make_run(state=RunState.RUNNING, fencing_token=token).pk: token for token in (3, 4)}
    assert lifecycle.succeed(job_of=job_of, now=NOW) == set(job_of)
    ended = RunEvent.objects.filter(state=RunState.SUCCEEDED)
    assert dict(ended.values_list("run_id", "job_id")) == job_of


def test_nothing_that_failed_is_unexplained() -> None:
    run = make_run(state=RunState.RUNNING)
    finish(run, BROKEN)
    run.refresh_from_db()
    assert (run.state, run.reason, run.message, run.log_tail) == (
        "FAILED",
        "EXIT_CODE",
        "Exit code 1.",
        "last line",
    )
    assert run.events.last().reason == "EXIT_CODE"  # type: ignore[union-attr]


def test_what_builds_on_a_failed_run_is_cancelled_and_says_so() -> None:
    run = make_run(state=RunState.RUNNING)
    after = make_run(cell=run.cell, state=RunState.QUEUED, depends_on=run)
    last = make_run(cell=run.cell, state=RunState.QUEUED, depends_on=after)
    finish(run, BROKEN)
    for dependent in (after, last):
        dependent.refresh_from_db()
        assert (dependent.state, dependent.reason) == (RunState.CANCELLED, FinishReason.DEPENDENCY_FAILED)


def test_what_builds_on_a_run_is_ready_when_it_succeeded() -> None:
    run = make_run(state=RunState.RUNNING)
    after = make_run(cell=run.cell, state=RunState.QUEUED, depends_on=run, ready_at=None)
    finish(run, GOOD)
    after.refresh_from_db()
    assert after.ready_at == NOW


def test_a_lost_run_is_queued_again_and_passes_its_node_over() -> None:
    run = make_run(state=RunState.RUNNING)
    finish(run, LOST)
    run.refresh_from_db()
    assert (run.state, run.avoided_node, run.fencing_token) == (RunState.QUEUED, "a", None)


def test_a_run_that_is_launched_again_no_longer_tells_why_it_was_queued() -> None:
    run = make_run(state=RunState.RUNNING)
    finish(run, LOST)
    assert start(run, job_id=2) == 1
    run.refresh_from_db()
    assert (run.state, run.reason, run.message) == (RunState.RUNNING, "", "")
    assert FinishReason.SUPERVISOR_LOST in run.events.values_list("reason", flat=True)


def test_a_run_lost_too_often_ends_as_a_crash_loop() -> None:
    run = make_run(state=RunState.RUNNING, launches_count=MAX_LAUNCHES)
    finish(run, LOST)
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FAILED, FinishReason.CRASH_LOOP)
    assert "It disappeared." in run.message


def test_being_stopped_with_labmgr_counts_as_no_launch() -> None:
    run = make_run(state=RunState.RUNNING, launches_count=MAX_LAUNCHES)
    finish(run, Outcome(succeeded=False, reason=FinishReason.STOPPED, message="Stopped."))
    run.refresh_from_db()
    assert (run.state, run.launches_count) == (RunState.QUEUED, MAX_LAUNCHES - 1)


def test_a_run_that_was_cancelled_is_not_queued_again() -> None:
    run = make_run(state=RunState.RUNNING)
    assert lifecycle.request_cancel(runs=[run], by="owner", now=NOW) == [run.pk]
    finish(run, LOST)
    run.refresh_from_db()
    assert run.state == RunState.FAILED


def test_cancelling_ends_what_waits_and_names_what_runs() -> None:
    cell = make_cell()
    waiting, running = make_run(cell=cell, state=RunState.QUEUED), make_run(cell=cell, state=RunState.RUNNING)
    after = make_run(cell=cell, state=RunState.QUEUED, depends_on=waiting)
    assert lifecycle.request_cancel(runs=[waiting, running], by="owner", now=NOW) == [running.pk]
    waiting.refresh_from_db(), after.refresh_from_db()
    assert (waiting.state, waiting.message) == (RunState.CANCELLED, "Cancelled by owner.")
    assert after.reason == FinishReason.DEPENDENCY_FAILED


def test_a_run_that_was_cancelled_while_it_ran_says_by_whom() -> None:
    run = make_run(state=RunState.RUNNING)
    lifecycle.request_cancel(runs=[run], by="owner", now=NOW)
    finish(
        run, Outcome(succeeded=False, reason=FinishReason.CANCELLED_BY_USER, message="A person cancelled it.")
    )
    run.refresh_from_db()
    assert (run.state, run.message) == (RunState.CANCELLED, "Cancelled by owner.")


def test_a_cancelled_run_cannot_be_started() -> None:
    run = make_run(state=RunState.QUEUED, cancel_requested_at=NOW)
    assert start(run, job_id=1) == 0
