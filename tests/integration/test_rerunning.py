"""Fresh attempts of runs that ended, and what is counted, queued and shown from then on."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction

from experiments import lifecycle, rerunning, summaries
from experiments.access import NotApproved
from experiments.admin.progress import progress_of
from experiments.models import Cell, Estimate, Experiment, Observation, Run
from experiments.rerunning import Rerun, RunAgainAlready, Which
from experiments.retries import Circumstances
from experiments.specs import CommandSpec, Outcome, ProbeSpec, RunSpec, spec_to_json
from experiments.states import AGEING, FinishReason, RunKind, RunState
from scheduler import queue, reruns
from tests.conftest import People
from tests.factories import (
    NOW,
    make_cell,
    make_estimate,
    make_experiment,
    make_job,
    make_observation,
    make_run,
    make_user,
)
from tests.unit.jobs import evaluate_spec, finetune_spec

pytestmark = pytest.mark.django_db

COMMAND = spec_to_json(CommandSpec(argv=("true",)))
OWN = finetune_spec(recipe="mine.py", recipe_file="/lab/mine.py")
CANCELLED = {"reason": FinishReason.DEPENDENCY_FAILED}


def rerun(experiment: Experiment, which: Which = Which.FAILED, user: Any = None) -> list[Rerun]:
    return reruns.rerun(experiment=experiment, which=which, user=user, now=NOW)


def attempts(*runs: Run) -> list[int]:
    """How many there are of each."""
    return [Run.every.filter(cell=run.cell, name=run.name).count() for run in runs]


def last(run: Run) -> Run:
    return Run.objects.get(cell=run.cell, name=run.name)


@pytest.fixture
def cell() -> Cell:
    return make_cell(experiment=make_experiment(approved=True))


@pytest.fixture
def tuned(cell: Cell) -> tuple[Run, Run]:
    """A fine-tune that failed and the evaluation that builds on it."""
    finetune = make_run(cell=cell, state=RunState.FAILED, name="a/finetune", priority=2)
    evaluate = make_run(
        cell=cell, state=RunState.CANCELLED, name="a/evaluate", depends_on=finetune, **CANCELLED
    )
    return finetune, evaluate


def test_what_failed_is_queued_again_with_what_builds_on_it(cell: Cell, tuned: tuple[Run, Run]) -> None:
    finetune, evaluate = tuned
    succeeded = make_run(cell=cell, state=RunState.SUCCEEDED)
    queued = rerun(cell.experiment)
    assert [one.wanted.name for one in queued] == ["a/finetune", "a/evaluate"]
    fresh, after = last(finetune), last(evaluate)
    assert (fresh.attempt, fresh.state, fresh.turn_at) == (2, RunState.QUEUED, NOW - 2 * AGEING)
    assert (after.state, after.depends_on, after.ready_at) == (RunState.QUEUED, fresh, None)
    assert attempts(succeeded) == [1]
    assert [run.run_id for run in queue.eligible_runs()] == [fresh.pk]


def test_the_earlier_attempt_stays_as_it_ended_and_leads_to_the_next(tuned: tuple[Run, Run]) -> None:
    finetune, _ = tuned
    rerun(finetune.cell.experiment)
    before = Run.every.get(pk=finetune.pk)
    assert (before.state, before.reason) == (RunState.FAILED, finetune.reason)
    assert before.superseded_by == last(finetune)
    (event,) = last(finetune).events.filter(state=RunState.PLANNED)
    assert event.message.startswith("Attempt 2, asked for by the operator: EXIT_CODE")
    entry = finetune.cell.experiment.log.get()
    assert entry.text == "Run again: 2 runs that did not succeed."


def test_an_experiment_that_was_finished_goes_on_and_counts_each_run_once(tuned: tuple[Run, Run]) -> None:
    experiment = tuned[0].cell.experiment
    assert progress_of([experiment])[experiment.pk].is_finished
    rerun(experiment)
    progress = progress_of([experiment])[experiment.pk]
    assert (progress.total, progress.finished, progress.state) == (2, 0, "QUEUED")
    (row,) = summaries.summarise(experiment).rows
    assert (row.state, row.reason, len(row.run_ids)) == (RunState.QUEUED, "", 2)
    rerun(experiment)  # nothing of it has ended
    assert attempts(*tuned) == [2, 2]


def test_what_was_measured_of_earlier_attempts_stays_evidence_and_is_not_summarised(cell: Cell) -> None:
    run = make_run(
        cell=cell, kind=RunKind.EVALUATE, spec=spec_to_json(evaluate_spec()), state=RunState.SUCCEEDED
    )
    make_observation(run=run, value=0.25)
    make_job(runs=[run], state="ENDED")
    assert summaries.summarise(cell.experiment).rows[0].metrics == {"exact_match": 0.25}
    rerun(cell.experiment, Which.MISSING)
    assert summaries.summarise(cell.experiment).rows[0].metrics == {}
    assert summaries.summarise(cell.experiment).rows[0].jobs == ()
    assert Observation.objects.get().run == run


def test_an_evaluation_alone_is_ready_at_once_and_builds_on_the_fine_tune_that_is_there(cell: Cell) -> None:
    finetune = make_run(cell=cell, state=RunState.SUCCEEDED)
    evaluate = make_run(cell=cell, state=RunState.FAILED, depends_on=finetune)
    rerun(cell.experiment)
    assert (last(evaluate).depends_on, last(evaluate).ready_at) == (finetune, NOW)


def test_what_builds_on_a_run_is_wanted_with_it_however_long_the_chain_and_whichever_is_older(
    cell: Cell,
) -> None:
    done = {"cell": cell, "state": RunState.SUCCEEDED}
    last_of_three, second = make_run(**done, name="third"), make_run(**done, name="second")
    first = make_run(**done, name="first")
    Run.objects.filter(pk=last_of_three.pk).update(depends_on=second)
    Run.objects.filter(pk=second.pk).update(depends_on=first)
    found = rerunning.with_dependents(
        [rerunning.want(first, "it has changed")], experiment=cell.experiment, anew={}
    )
    assert [want.name for want in found] == ["first", "second", "third"]


def test_a_run_may_fail_again_and_again(tuned: tuple[Run, Run]) -> None:
    experiment = tuned[0].cell.experiment
    for attempt in (2, 3):
        rerun(experiment)
        fresh = last(tuned[0])
        assert fresh.attempt == attempt
        lifecycle.start(job_of={fresh.pk: attempt}, token=attempt, directory="/x", now=NOW)
        broken = Outcome(succeeded=False, reason=FinishReason.EXIT_CODE, message="Exit code 1.")
        lifecycle.finish(
            run_id=fresh.pk,
            job_id=attempt,
            outcome=broken,
            log_tail="",
            around=Circumstances(node_name="a"),
            now=NOW,
        )
        assert last(tuned[1]).reason == FinishReason.DEPENDENCY_FAILED
    assert attempts(*tuned) == [3, 3]


def test_what_waits_for_a_run_that_is_run_again_waits_for_its_next_attempt(cell: Cell) -> None:
    finetune = make_run(
        cell=cell, kind=RunKind.COMMAND, spec=COMMAND, state=RunState.SUCCEEDED, directory="/not/there"
    )
    waiting = make_run(cell=cell, state=RunState.QUEUED, depends_on=finetune)
    rerun(cell.experiment, Which.MISSING)
    waiting.refresh_from_db()
    assert (waiting.depends_on, waiting.ready_at, waiting.turn_at) == (last(finetune), None, None)
    assert [run.run_id for run in queue.eligible_runs()] == [last(finetune).pk]


def test_what_builds_on_a_run_that_is_not_run_again_and_did_not_succeed_stays(
    tuned: tuple[Run, Run],
) -> None:
    experiment, evaluate = tuned[0].cell.experiment, tuned[1]
    only = [want for want in rerunning.failed(experiment=experiment) if want.run_id == evaluate.pk]
    assert rerunning.rerun(experiment=experiment, wanted=only, which=Which.FAILED, user=None, now=NOW) == []
    assert attempts(evaluate) == [1]


def test_what_somebody_else_had_run_again_meanwhile_is_left_out(tuned: tuple[Run, Run]) -> None:
    experiment = tuned[0].cell.experiment
    seen = rerunning.failed(experiment=experiment)
    rerun(experiment)
    again = rerunning.rerun(experiment=experiment, wanted=seen, which=Which.FAILED, user=None, now=NOW)
    assert (again, attempts(*tuned)) == ([], [2, 2])


def test_the_database_takes_no_attempt_twice(tuned: tuple[Run, Run]) -> None:
    finetune, _ = tuned
    rerun(finetune.cell.experiment)
    for refused in (
        lambda: make_run(cell=finetune.cell, name=finetune.name, attempt=2),
        lambda: Run.every.filter(pk=tuned[1].pk).update(superseded_by=last(finetune)),
        lambda: Run.every.filter(pk=finetune.pk).update(state=RunState.PLANNED),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            refused()


def test_an_attempt_that_is_there_already_is_told_as_what_it_is(tuned: tuple[Run, Run]) -> None:
    make_run(cell=tuned[0].cell, name=tuned[0].name, attempt=2, state=RunState.FAILED, superseded_by=tuned[1])
    with pytest.raises(RunAgainAlready, match="look at it again"):
        rerun(tuned[0].cell.experiment)


def test_nothing_of_a_draft_is_run_again() -> None:
    experiment = make_run(state=RunState.FAILED).cell.experiment  # taken back from a batch script
    with pytest.raises(NotApproved, match="approve it first"):
        rerun(experiment)
    with pytest.raises(NotApproved, match="approve it first"):
        rerun_found(experiment)


def rerun_found(experiment: Experiment, user: User | None = None) -> list[Rerun]:
    """What was found by somebody, queued by somebody else."""
    found = rerunning.failed(experiment=experiment)
    return rerunning.rerun(experiment=experiment, wanted=found, which=Which.FAILED, user=user, now=NOW)


def test_only_the_owner_and_who_controls_any_run_have_runs_run_again(people: People) -> None:
    experiment = make_experiment(approved=True, created_by=people.owner)
    make_run(cell=make_cell(experiment=experiment), state=RunState.FAILED)
    with pytest.raises(PermissionDenied, match="belongs to somebody else"):
        rerun(experiment, user=people.colleague)
    with pytest.raises(PermissionDenied, match="belongs to somebody else"):
        rerun_found(experiment, people.colleague)
    lead = make_user(permissions=["experiments.control_any_run"])
    assert len(rerun(experiment, user=lead)) == 1


@pytest.mark.parametrize(
    "permission,kind,spec",
    [
        ("run_commands", RunKind.COMMAND, CommandSpec(argv=("true",))),
        ("run_own_recipes", RunKind.FINETUNE, OWN),
        ("run_own_recipes", RunKind.PROBE, ProbeSpec(finetune=OWN, row_indices=(0,))),
    ],
)
@pytest.mark.parametrize("which", [Which.FAILED, Which.MISSING])
def test_a_labs_own_programs_are_run_again_only_by_who_may_plan_them(
    people: People, permission: str, kind: RunKind, spec: RunSpec, which: Which
) -> None:
    experiment = make_experiment(approved=True, created_by=people.owner)
    state = RunState.FAILED if which is Which.FAILED else RunState.SUCCEEDED
    gone = {"kind": kind, "spec": spec_to_json(spec), "state": state, "directory": "/not/there"}
    run = make_run(cell=make_cell(experiment=experiment), **gone)
    with pytest.raises(PermissionDenied, match=permission):
        rerun(experiment, which, people.owner)
    assert attempts(run) == [1]
    wanted = ["experiments.control_any_run", f"experiments.{permission}"]
    assert len(rerun(experiment, which, make_user(permissions=wanted))) == 1


def test_the_next_attempt_is_expected_to_take_what_the_first_was(cell: Cell) -> None:
    run = make_run(cell=cell, state=RunState.FAILED)
    make_estimate(run=run, actual=90.0, compared_at=NOW)
    rerun(cell.experiment)
    copied = Estimate.objects.get(run=last(run))
    assert (copied.value, copied.n, copied.actual, copied.compared_at) == (100.0, 3, None, None)
    assert Estimate.objects.get(run=run).actual == 90.0


def test_an_experiment_goes_with_all_its_attempts(tuned: tuple[Run, Run]) -> None:
    rerun(tuned[0].cell.experiment)
    tuned[0].cell.experiment.delete()
    assert not Run.every.exists()
