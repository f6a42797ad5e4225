"""Two people have the same runs run again at once, and a run ends while what builds on it is run again."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from experiments import lifecycle
from experiments.models import Experiment, Run
from experiments.rerunning import RunAgainAlready, Which
from experiments.retries import Circumstances
from experiments.specs import Outcome
from experiments.states import FinishReason, RunState
from scheduler import reruns
from tests.factories import NOW, make_cell, make_experiment, make_run
from tests.integration.locks import on_its_own_connection, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE = 4


def at_once(*acts: Callable[[], object]) -> list[object]:
    """What each came to, all begun in the same moment, each on a connection of its own."""
    begin = threading.Barrier(len(acts))

    def do(act: Callable[[], object]) -> object:
        begin.wait()
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(do, acts))


def rerun(experiment: Experiment) -> int:
    try:
        return len(reruns.rerun(experiment=experiment, which=Which.FAILED, user=None, now=NOW))
    except RunAgainAlready:
        return 0


def test_of_several_people_one_has_a_run_run_again() -> None:
    experiment = make_experiment(approved=True)
    cell = make_cell(experiment=experiment)
    runs = [make_run(cell=cell, state=RunState.FAILED) for _ in range(5)]
    queued = at_once(*[lambda: rerun(experiment)] * PEOPLE)
    assert sorted(queued) == [0] * (PEOPLE - 1) + [len(runs)]  # type: ignore[type-var]
    assert Run.every.count() == 2 * len(runs)
    assert set(Run.objects.values_list("attempt", "state")) == {(2, RunState.QUEUED)}


@pytest.mark.parametrize("succeeds", [True, False])
@pytest.mark.parametrize("_again", range(5))
def test_what_builds_on_a_run_that_ends_meanwhile_is_not_left_waiting(succeeds: bool, _again: int) -> None:
    experiment = make_experiment(approved=True)
    cell = make_cell(experiment=experiment)
    finetune = make_run(cell=cell, state=RunState.RUNNING)
    make_run(cell=cell, name="evaluate", state=RunState.CANCELLED, depends_on=finetune)
    outcome = (
        Outcome(succeeded=True)
        if succeeds
        else Outcome(succeeded=False, reason=FinishReason.EXIT_CODE, message="Exit code 1.")
    )

    def end() -> bool:
        return lifecycle.finish(
            run_id=finetune.pk,
            job_id=1,
            outcome=outcome,
            log_tail="",
            around=Circumstances(node_name="a"),
            now=NOW,
        )

    at_once(lambda: rerun(experiment), end)
    evaluate = Run.objects.get(name="evaluate")
    if succeeds:
        assert (evaluate.state, evaluate.ready_at) == (RunState.QUEUED, NOW)
    else:
        waits_for_another = evaluate.state == RunState.QUEUED and evaluate.depends_on != finetune
        assert evaluate.state == RunState.CANCELLED or waits_for_another


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_a_fine_tune_is_locked_before_an_older_evaluation_that_waits_for_it() -> None:
    cell = make_cell(experiment=make_experiment(approved=True))
    evaluate = make_run(cell=cell, state=RunState.QUEUED)
    finetune = make_run(cell=cell, state=RunState.RUNNING)
    Run.objects.filter(pk=evaluate.pk).update(depends_on=finetune)
    make_run(cell=cell, state=RunState.FAILED)
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():  # as where a run ends and tells what builds on it
            Run.objects.select_for_update().get(pk=finetune.pk)
            running_again = threads.submit(on_its_own_connection, lambda: rerun(cell.experiment))
            until_somebody_waits_for_a_lock()
            Run.objects.select_for_update(nowait=True).get(pk=evaluate.pk)
        assert running_again.result() == 1
