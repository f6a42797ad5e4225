"""What is launched again after a failure, what is different then, and what is not."""

from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from experiments.models import Experiment, Run
from experiments.specs import CommandSpec, Outcome, spec_to_json
from experiments.states import ALONE_AFTER, FinishReason, JobState, RunKind, RunState
from scheduler import dispatch, watching
from scheduler.ending import end_job
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Job, Node
from scheduler.placed import charge, charges, paths_of
from tests.factories import NOW, make_cell, make_device, make_experiment, make_job, make_node, make_run
from tests.unit.jobs import evaluate_spec, finetune_spec, record, write_result

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"
    settings.CACHE_ROOT = tmp_path / "cache"


def node(name: str, *, memory_mib: int = 4096) -> Node:
    made = make_node(name=name)
    make_device(node=made, memory_mib=memory_mib)
    return made


def launched(on: Node, *, again: Run | None = None, state: str = JobState.CLAIMED, **fields: Any) -> Job:
    """A job of a command that does not exist, or of the same run once more."""
    spec = spec_to_json(CommandSpec(argv=("/nowhere/program",)))
    run = again or make_run(kind=RunKind.COMMAND, spec=spec, state=RunState.QUEUED, **fields)
    return carrying([run], on, state=state)


def carrying(runs: list[Run], on: Node, *, state: str = JobState.RUNNING) -> Job:
    job = make_job(runs=runs, devices=list(on.devices.all()), state=state)
    ids = [run.pk for run in runs]
    Run.objects.filter(pk__in=ids).update(
        state=RunState.RUNNING,
        fencing_token=job.pk,
        started_at=NOW,
        launches_count=F("launches_count") + 1,
    )
    Experiment.objects.filter(pk=job.experiment_id).update(open_jobs=1)
    return job


def fail_to_launch(job: Job) -> Run:
    """A file where the job's folder should be."""
    directory = paths_of(job).directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.write_text("in the way")
    assert watching.launch_all(claimed=charges([job]), launcher=SimulatedLauncher(), now=NOW) == set()
    return Run.objects.get()


def end(job: Job, reason: FinishReason) -> Run:
    outcome = Outcome(succeeded=False, reason=reason, message="It went wrong.")
    outcomes = {launch.run_id: outcome for launch in job.launches.all()}
    end_job(job=job, record=record(job_id=job.pk), outcomes=outcomes, log_tail="", now=NOW)
    return Run.objects.get()


def test_what_cannot_be_launched_is_tried_once_on_another_node() -> None:
    a, b = node("a"), node("b")
    run = fail_to_launch(launched(a))
    assert (run.state, run.reason, run.avoided_node) == (RunState.QUEUED, FinishReason.LAUNCH_FAILED, "a")
    assert "once, for another node than a" in run.message
    assert run.message == run.events.last().message  # type: ignore[union-attr]
    run = fail_to_launch(launched(b, again=run))
    assert (run.state, run.reason) == (RunState.FAILED, FinishReason.LAUNCH_FAILED)


@pytest.mark.parametrize("memory_mib", [None, 1024])
def test_what_cannot_be_launched_fails_at_once_where_no_other_node_could_hold_it(
    memory_mib: int | None,
) -> None:
    a = node("a")
    if memory_mib:
        node("b", memory_mib=memory_mib)
    run = fail_to_launch(launched(a, device_memory_mib=2048))
    assert (run.state, run.reason) == (RunState.FAILED, FinishReason.LAUNCH_FAILED)


def test_a_run_that_was_queued_anew_by_a_person_is_tried_elsewhere_once_more() -> None:
    a, b = node("a"), node("b")
    run = fail_to_launch(launched(a))
    Run.objects.filter(pk=run.pk).update(queued_at=NOW.replace(hour=13))
    assert fail_to_launch(launched(b, again=run)).state == RunState.QUEUED


def test_out_of_the_memory_of_a_share_it_gets_whole_devices_once() -> None:
    a = node("a")
    run = end(launched(a, device_memory_mib=1024, state=JobState.RUNNING), FinishReason.OUT_OF_MEMORY)
    assert (run.state, run.device_memory_mib) == (RunState.QUEUED, None)
    assert "1,024 MiB" in run.message and "whole devices" in run.message
    run = end(launched(a, again=run, state=JobState.RUNNING), FinishReason.OUT_OF_MEMORY)
    assert (run.state, run.reason) == (RunState.FAILED, FinishReason.OUT_OF_MEMORY)


def evaluations(count: int) -> list[Run]:
    cell = make_cell(experiment=make_experiment(approved=True))
    spec = spec_to_json(evaluate_spec())
    fields: dict[str, Any] = {"kind": RunKind.EVALUATE, "spec": spec, "engine_key": "k", "cell": cell}
    return [make_run(state=RunState.QUEUED, **fields) for _ in range(count)]


def broken(
    job: Job,
    *,
    done: int = 0,
    active: int | None = None,
    exit_code: int | None = 4,
    signal: int | None = None,
) -> list[Run]:
    """The engine of a job broke after so many of its runs had their results."""
    paths = paths_of(job)
    paths.directory.mkdir(parents=True)
    paths.log.write_text("Error: the engine broke\n")
    placed = charge(job).placed
    for run in placed.runs[:done]:
        write_result(placed, run.run_id, predictions=3)
    if active is not None:
        (paths.directory / "engine.json").write_text(f'{{"active_run_id": {active}}}')
    watching.end_all(records=[record(job_id=job.pk, exit_code=exit_code, signal=signal)], known={}, now=NOW)
    return list(Run.objects.order_by("pk"))


def states(runs: list[Run]) -> list[str]:
    return [run.state for run in runs]


@pytest.mark.parametrize(
    ("crash", "reason"),
    [
        ({"exit_code": 4}, FinishReason.ENGINE_FAILED),
        ({"exit_code": None, "signal": 11}, FinishReason.KILLED),
    ],
)
def test_an_engine_that_breaks_takes_none_of_its_runs_with_it(
    crash: dict[str, Any], reason: FinishReason
) -> None:
    a, queued = node("a"), evaluations(3)
    runs = broken(carrying(queued, a), done=1, active=queued[1].pk, **crash)
    assert states(runs) == [RunState.SUCCEEDED, RunState.QUEUED, RunState.QUEUED]
    assert [run.reason for run in runs] == ["", reason, reason]
    assert [run.engine_crashes_count for run in runs] == [0, 1, 0]
    assert "once more, it goes alone" in runs[1].message
    assert "waited for its turn" in runs[2].message


def test_nobody_knows_whose_fault_it_is_that_an_engine_does_not_boot() -> None:
    runs = broken(carrying(evaluations(2), node("a")), exit_code=3)
    assert [run.engine_crashes_count for run in runs] == [1, 1]


def test_who_was_active_in_two_crashes_goes_alone_and_then_fails_and_the_others_succeed() -> None:
    a, queued = node("a"), evaluations(3)
    bad = queued[0].pk
    for crash in range(ALONE_AFTER):
        job = carrying(queued, a)
        runs = broken(job, active=bad)
        assert states(runs) == [RunState.QUEUED] * 3, crash
    assert "2 engines broke down on it" in runs[0].message and "for itself" in runs[0].message
    node("b")
    dispatch.tick(now=NOW, send=lambda job: None)
    alone, together = [set(job.launches.values_list("run_id", flat=True)) for job in open_jobs()]
    assert (alone, together) == ({bad}, {run.pk for run in queued[1:]})
    runs = broken(open_jobs()[0], active=bad)
    assert (runs[0].state, runs[0].reason) == (RunState.FAILED, FinishReason.ENGINE_FAILED)
    assert states(broken(open_jobs()[0], done=2)) == [RunState.FAILED, RunState.SUCCEEDED, RunState.SUCCEEDED]


def open_jobs() -> list[Job]:
    return list(Job.objects.exclude(state=JobState.ENDED).select_related("experiment", "node").order_by("pk"))


def test_breaking_down_in_company_is_no_launch_that_counts() -> None:
    queued = evaluations(2)
    Run.objects.update(launches_count=3)
    runs = broken(carrying(queued, node("a")))
    assert [(run.state, run.launches_count) for run in runs] == [(RunState.QUEUED, 3)] * 2


def test_an_engine_with_a_single_run_fails_at_once() -> None:
    (run,) = broken(carrying(evaluations(1), node("a")))
    assert (run.state, run.reason, run.engine_crashes_count) == (
        RunState.FAILED,
        FinishReason.ENGINE_FAILED,
        0,
    )


def test_a_fine_tune_is_told_of_its_earlier_jobs_the_newest_first_and_of_nobody_elses() -> None:
    a, spec = node("a"), spec_to_json(finetune_spec())
    run = make_run(kind=RunKind.FINETUNE, spec=spec, state=RunState.QUEUED)
    earlier = []
    for _ in range(2):
        job = carrying([run], a)
        type(job).objects.filter(pk=job.pk).update(directory=f"/runs/{job.pk}")
        earlier.insert(0, Path(f"/runs/{job.pk}"))
        assert "goes on after its last whole epoch" in end(job, FinishReason.SUPERVISOR_LOST).message
    other = make_run(kind=RunKind.FINETUNE, spec=spec, state=RunState.QUEUED, cell=run.cell)
    b = node("b")
    carried, others = (each.placed for each in charges([carrying([run], a), carrying([other], b)]))
    assert carried.runs[0].earlier_directories == tuple(earlier)
    assert others.runs[0].earlier_directories == ()
