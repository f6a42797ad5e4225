"""Batches of placements and of ends: a stale one among fresh ones, and a crash in between."""

from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from experiments.models import Run
from experiments.specs import SimulatedSpec, spec_to_json
from experiments.states import JobState, RunState
from scheduler import applying, dispatch, ending, inventory, queue, watching
from scheduler.agent import Agent
from scheduler.allocation import Placement
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Device, Job, Lease, Node
from tests.factories import NOW, make_cell, make_device, make_experiment, make_node, make_run
from tests.unit.jobs import record

pytestmark = pytest.mark.django_db(transaction=True)

SHORT = spec_to_json(SimulatedSpec(duration_seconds=0.01))


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"
    settings.CACHE_ROOT = tmp_path / "cache"


def queued(count: int, *, max_parallel: int = 100) -> list[Run]:
    node = make_node(is_simulated=True, cpu_threads=100)
    for _ in range(count):
        make_device(node=node, kind=Device.Kind.SIMULATED)
    cell = make_cell(experiment=make_experiment(approved=True, max_parallel=max_parallel))
    return [make_run(cell=cell, state=RunState.QUEUED) for _ in range(count)]


def decided() -> tuple[Placement, ...]:
    return queue.decide(now=timezone.now()).placements


def apply(placements: tuple[Placement, ...]) -> int:
    return applying.apply(placements=placements, now=NOW, send=lambda job: None)


@pytest.fixture
def placed() -> list[Job]:
    """Three jobs that run."""
    queued(3)
    assert apply(decided()) == 3
    Job.objects.update(state=JobState.RUNNING, started_at=NOW)
    return list(Job.objects.select_related("node", "experiment").order_by("pk"))


def test_a_run_cancelled_meanwhile_loses_none_of_its_batch() -> None:
    runs = queued(5)
    placements = decided()
    Run.objects.filter(pk=runs[2].pk).update(cancel_requested_at=NOW)
    assert apply(placements) == 4
    states = list(Run.objects.order_by("pk").values_list("state", flat=True))
    assert states.count(RunState.RUNNING) == 4 and states[2] == RunState.QUEUED
    assert Device.objects.filter(allocated_mib__gt=0).count() == Lease.objects.count() == 4


def test_a_device_given_meanwhile_and_a_window_closed_meanwhile_lose_only_their_own() -> None:
    queued(5)
    placements = decided()
    Device.objects.filter(pk=placements[0].device_ids[0]).update(allocated_mib=1)
    type(make_experiment()).objects.update(max_parallel=3)
    assert apply(placements) == 3
    assert Run.objects.filter(state=RunState.RUNNING).count() == 3


def test_the_same_placements_applied_twice_give_nothing_twice() -> None:
    queued(4)
    placements = decided()
    assert (apply(placements), apply(placements)) == (4, 0)
    assert Job.objects.count() == 4


def test_every_run_of_a_batch_goes_by_its_own_job() -> None:
    runs = queued(3)
    apply(decided())
    for run in runs:
        run.refresh_from_db()
        job = Job.objects.get(launches__run=run)
        assert (run.fencing_token, run.directory) == (job.pk, job.directory)
        assert list(run.events.order_by("-pk").values_list("state", "job_id")[:1]) == [("RUNNING", job.pk)]


def test_a_batch_that_the_database_refuses_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = queued(4)
    placements = decided()
    carry = applying._carry

    def refuse_the_second(fresh: Any, jobs: Any, ledger: Any) -> None:
        if any(runs[1].pk in placement.item.run_ids for placement in fresh):
            raise applying.Stale("for this test")
        carry(fresh, jobs, ledger)

    monkeypatch.setattr(applying, "_carry", refuse_the_second)
    assert apply(placements) == 3
    assert Job.objects.count() == 3
    assert Node.objects.get().allocated_cpu_threads == 3


def test_a_tick_looks_at_as_many_runs_as_devices_are_free_and_a_few_more() -> None:
    runs = queued(3)
    Run.objects.filter(pk__lt=runs[2].pk).update(devices=4)  # more than there are
    Device.objects.filter(pk=Device.objects.all()[0].pk).update(state=Device.State.GONE)  # two are left
    sent: list[Job] = []
    assert dispatch.tick(now=timezone.now(), send=sent.append, pool="elsewhere", most=9) == 0
    assert dispatch.tick(now=timezone.now(), send=sent.append, pool="", most=0) == 0
    assert dispatch.tick(now=timezone.now(), send=sent.append, pool="", most=1) == 1
    assert Run.objects.get(state=RunState.RUNNING) == runs[2]


def test_jobs_end_in_one_batch_and_once(placed: list[Job]) -> None:
    records = [record(job_id=job.pk) for job in placed]
    watching.end_all(records=records, known={}, now=NOW)
    watching.end_all(records=records, known={}, now=NOW)
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.SUCCEEDED}
    assert set(Job.objects.values_list("state", flat=True)) == {JobState.ENDED}
    assert not Device.objects.filter(allocated_mib__gt=0).exists()
    assert placed[0].experiment.open_jobs >= 0
    assert type(placed[0].experiment).objects.get().open_jobs == 0
    assert Run.objects.get(pk=Run.objects.first().pk).events.filter(state="SUCCEEDED").count() == 1  # type: ignore[union-attr]


def test_a_job_that_lost_its_run_ends_with_its_batch_and_changes_nothing_of_the_run(
    placed: list[Job],
) -> None:
    stale = Run.objects.get(fencing_token=placed[1].pk)
    Run.objects.filter(pk=stale.pk).update(fencing_token=9999)
    watching.end_all(records=[record(job_id=job.pk) for job in placed], known={}, now=NOW)
    assert Run.objects.get(pk=stale.pk).state == RunState.RUNNING
    assert Run.objects.filter(state=RunState.SUCCEEDED).count() == 2


def test_a_job_whose_end_is_refused_does_not_keep_the_others_open(
    placed: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    end_jobs = ending.end_jobs

    def refuse_the_second(*, ended: Any, now: Any) -> Any:
        if any(each.job.pk == placed[1].pk for each in ended):
            raise DatabaseError("for this test")
        return end_jobs(ended=ended, now=now)

    monkeypatch.setattr(ending, "end_jobs", refuse_the_second)
    refused = watching.end_all(records=[record(job_id=job.pk) for job in placed], known={}, now=NOW)
    assert refused == {placed[1].pk}
    assert Job.objects.filter(state=JobState.ENDED).count() == 2


def test_an_end_that_is_refused_again_and_again_holds_up_nothing_else_on_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = inventory.read_simulated(name="sim", text="2x1GiB")
    agent = Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda job: None)
    agent.step(timeout_seconds=0)
    cell = make_cell(experiment=make_experiment(approved=True, max_parallel=9))
    runs = [make_run(cell=cell, state=RunState.QUEUED, spec=SHORT) for _ in range(6)]
    end_jobs = ending.end_jobs

    def refuse_the_first(*, ended: Any, now: Any) -> Any:
        if any(runs[0].pk in each.outcomes for each in ended):
            raise DatabaseError("for this test")
        return end_jobs(ended=ended, now=now)

    monkeypatch.setattr(ending, "end_jobs", refuse_the_first)
    dispatch.tick(now=timezone.now(), send=lambda job: None)
    for _ in range(100):
        agent.step(timeout_seconds=0.05)
        if Run.objects.filter(state=RunState.SUCCEEDED).count() == 5:
            break
    states = list(Run.objects.order_by("pk").values_list("state", flat=True))
    assert states == [RunState.RUNNING, *[RunState.SUCCEEDED] * 5]
    assert Node.objects.get().session_epoch == 1
    monkeypatch.setattr(ending, "end_jobs", end_jobs)
    agent.step(timeout_seconds=0.05)
    assert Run.objects.get(pk=runs[0].pk).state == RunState.SUCCEEDED


def test_an_agent_that_dies_between_launching_and_writing_it_down_loses_no_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = inventory.read_simulated(name="sim", text="3x1GiB")
    first = Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda job: None)
    first.step(timeout_seconds=0)
    cell = make_cell(experiment=make_experiment(approved=True, max_parallel=9))
    for _ in range(3):
        make_run(cell=cell, state=RunState.QUEUED)
    dispatch.tick(now=timezone.now(), send=lambda job: None)
    with monkeypatch.context() as crash:
        crash.setattr(SimulatedLauncher, "submit", _submit_once_then_die())
        with pytest.raises(SystemExit):
            first.step(timeout_seconds=0)
    assert set(Job.objects.values_list("state", flat=True)) == {JobState.CLAIMED}
    second = Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda job: None)
    second.step(timeout_seconds=0)
    assert set(Job.objects.values_list("state", flat=True)) == {JobState.RUNNING}
    assert Job.objects.count() == 3


def test_what_was_freed_is_given_out_by_the_agent_itself() -> None:
    sent: list[int] = []
    reading = inventory.read_simulated(name="sim", text="1x1GiB")
    agent = Agent(
        reading=reading, launcher=SimulatedLauncher(), send=lambda charge: sent.append(charge.job.pk)
    )
    agent.step(timeout_seconds=0)
    cell = make_cell(experiment=make_experiment(approved=True, max_parallel=9))
    spec = {"kind": "simulated", "duration_seconds": 0.01}
    for _ in range(2):
        make_run(cell=cell, state=RunState.QUEUED, spec=spec)
    dispatch.tick(now=timezone.now(), send=lambda job: None)
    succeeded = Run.objects.filter(state=RunState.SUCCEEDED)
    for _ in range(4):  # no tick but the agent's own
        if succeeded.count() < 2:
            agent.step(timeout_seconds=5)
    assert succeeded.count() == 2
    assert sent == []


def _submit_once_then_die() -> Any:
    submit, calls = SimulatedLauncher.submit, []

    def dying(self: SimulatedLauncher, request: Any) -> None:
        if calls:
            raise SystemExit
        calls.append(request)
        submit(self, request)

    return dying
