"""A pass of the agent, from what has ended to what is launched on its devices: what it asks, and what it may know already."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from experiments.models import Run
from experiments.specs import CommandSpec, SimulatedSpec, spec_to_json
from experiments.states import JobState, RunKind, RunState
from scheduler import agent as agents
from scheduler import dispatch, inventory, watching
from scheduler.agent import Agent
from scheduler.launchers.base import Ending
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Device, Job, Lease
from scheduler.placed import Charge, charges
from tests.factories import NOW, make_cell, make_device, make_experiment, make_job, make_node, make_run
from tests.unit.jobs import record

pytestmark = pytest.mark.django_db(transaction=True)

QUERIES_OF_AN_END = 17  # what they cost together is in docs/benchmarks.md, "How long a device stands idle"
QUERIES_OF_A_REFILL = 16
LONG = spec_to_json(SimulatedSpec(duration_seconds=600))
SHORT = spec_to_json(SimulatedSpec(duration_seconds=0.01))


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"
    settings.CACHE_ROOT = tmp_path / "cache"


def running_commands(count: int) -> list[Charge]:
    node = make_node(cpu_threads=100)
    command = spec_to_json(CommandSpec(argv=("true",)))
    cell = make_cell(experiment=make_experiment(approved=True, max_parallel=100))
    jobs = []
    for _ in range(count):
        run = make_run(cell=cell, kind=RunKind.COMMAND, spec=command, state=RunState.RUNNING, fencing_token=1)
        job = make_job(runs=[run], devices=[make_device(node=node)], node=node, cpu_threads=0)
        Run.objects.filter(pk=run.pk).update(fencing_token=job.pk)
        jobs.append(job)
    type(cell.experiment).objects.update(open_jobs=count)
    return charges(list(Job.objects.filter(pk__in=[job.pk for job in jobs]).with_their_place()))


def simulated_agent(devices: int) -> Agent:
    reading = inventory.read_simulated(name="sim", text=f"{devices}x1GiB")
    made = Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda charge: None)
    made.step(timeout_seconds=0)
    return made


def queue_simulated(count: int, spec: dict[str, object]) -> None:
    cell = make_cell(experiment=make_experiment(approved=True, max_parallel=100))
    for _ in range(count):
        make_run(cell=cell, state=RunState.QUEUED, spec=spec)


def tables(queries: CaptureQueriesContext, *names: str) -> list[str]:
    return [
        query["sql"]
        for query in queries.captured_queries
        if any(f'"{name}"' in query["sql"] for name in names)
    ]


@pytest.mark.parametrize("count", [1, 8])
def test_ending_jobs_asks_the_same_few_questions_however_many_there_are(count: int) -> None:
    known = {each.job.pk: each for each in running_commands(count)}
    records = [record(job_id=job_id) for job_id in known]
    dispatch.request_tick()  # or the first request would make the row
    with CaptureQueriesContext(connection) as asked:
        assert watching.end_all(records=records, known=known, now=timezone.now()) == set()
    questions = [q for q in asked.captured_queries if not q["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(questions) <= QUERIES_OF_AN_END
    assert Run.objects.filter(state=RunState.SUCCEEDED).count() == count


@pytest.mark.parametrize("count", [1, 8])
def test_refilling_devices_asks_the_same_few_questions_however_many_there_are(count: int) -> None:
    agent = simulated_agent(count)
    queue_simulated(count + 5, LONG)
    taken: list[Charge] = []
    with CaptureQueriesContext(connection) as asked:
        placed = dispatch.tick(
            now=timezone.now(), send=taken.append, pool="", most=32, claiming_node_id=agent._node.pk
        )
    assert placed == count == len(taken)
    questions = [q for q in asked.captured_queries if not q["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(questions) <= QUERIES_OF_A_REFILL


def test_what_was_just_placed_is_launched_without_reading_it_again() -> None:
    agent = simulated_agent(2)
    queue_simulated(2, LONG)
    taken: list[Charge] = []
    dispatch.tick(now=timezone.now(), send=taken.append, pool="", claiming_node_id=agent._node.pk)
    with CaptureQueriesContext(connection) as asked:
        launched = watching.launch_all(claimed=taken, launcher=SimulatedLauncher(), now=timezone.now())
    assert launched == {charge.job.pk for charge in taken}
    assert not [query for query in asked.captured_queries if query["sql"].startswith("SELECT")]


def test_what_the_ticker_placed_is_claimed_though_something_ends_in_every_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = simulated_agent(2)
    queue_simulated(1, LONG)
    dispatch.tick(now=timezone.now(), send=lambda charge: None)
    monkeypatch.setattr(agent, "_end", lambda: True)
    monkeypatch.setattr(agent, "_inspect_at", 0.0)
    agent.step(timeout_seconds=0)
    assert Job.objects.get().state == JobState.RUNNING


def test_an_agent_that_looks_anew_forgets_what_it_knew() -> None:
    agent = simulated_agent(1)
    queue_simulated(1, LONG)
    dispatch.tick(now=timezone.now(), send=lambda charge: None)
    agent.step(timeout_seconds=0)
    job = Job.objects.get()
    assert agent.watches(job.pk)
    Job.objects.filter(pk=job.pk).update(state=JobState.ENDED, ended_at=NOW)
    agent._adopt_all()
    assert not agent.watches(job.pk)


def test_a_job_whose_launch_was_not_written_down_is_known_to_run_once_it_is_adopted() -> None:
    launcher = SimulatedLauncher()
    reading = inventory.read_simulated(name="sim", text="1x1GiB")
    agent = Agent(reading=reading, launcher=launcher, send=lambda charge: None)
    agent.step(timeout_seconds=0)
    queue_simulated(1, LONG)
    dispatch.tick(now=timezone.now(), send=lambda charge: None)
    agent.step(timeout_seconds=0)
    Job.objects.update(state=JobState.CLAIMED, started_at=None)  # as if the database had gone away before
    agent._adopt_all()
    known = agent._watched[Job.objects.get().pk].job
    assert (known.state, known.started_at) == (JobState.RUNNING, Job.objects.get().started_at)
    assert Job.objects.get().state == JobState.RUNNING


def test_fine_tunes_are_asked_for_earlier_epochs_at_once_however_many_there_are() -> None:
    jobs = [charge.job for charge in running_commands(5)]
    Run.objects.update(kind=RunKind.FINETUNE)
    with CaptureQueriesContext(connection) as asked:
        charges(jobs)
    assert len(asked.captured_queries) == 3


def test_what_runs_is_read_only_where_something_would_pass_a_head() -> None:
    simulated_agent(2)
    queue_simulated(4, LONG)
    with CaptureQueriesContext(connection) as asked:
        assert dispatch.tick(now=timezone.now(), send=lambda charge: None, pool="", most=32) == 2
    reads = [sql for sql in tables(asked, "scheduler_lease") if sql.startswith("SELECT")]
    assert reads == []
    Run.objects.queued().update(devices=2)
    Job.objects.filter(pk=Job.objects.earliest("pk").pk).update(limit_seconds=10)
    device = Lease.objects.earliest("pk").device
    Device.objects.filter(pk=device.pk).update(allocated_mib=0)  # as if it were free: the gang of two is head
    queue_simulated(1, LONG)
    with CaptureQueriesContext(connection) as asked:
        dispatch.tick(now=timezone.now(), send=lambda charge: None, pool="", most=32)
    assert [sql for sql in tables(asked, "scheduler_lease") if sql.startswith("SELECT")]


def test_a_cancel_that_came_after_the_launch_is_seen_at_the_end() -> None:
    charge, other = running_commands(2)
    Run.objects.filter(pk=charge.runs[0].pk).update(cancel_requested_at=NOW)
    known = {each.job.pk: each for each in (charge, other)}
    records = [record(job_id=job_id, ending=Ending.CANCELLED, exit_code=None, signal=15) for job_id in known]
    watching.end_all(records=records, known=known, now=timezone.now())
    assert Run.objects.get(pk=charge.runs[0].pk).state == RunState.CANCELLED
    assert Run.objects.get(pk=other.runs[0].pk).state != RunState.CANCELLED


def test_a_run_that_was_taken_meanwhile_is_not_ended_by_what_was_known_of_it() -> None:
    (charge,) = running_commands(1)
    charge.job.launches.update(is_open=False)
    Run.objects.filter(pk=charge.runs[0].pk).update(fencing_token=9999)
    watching.end_all(
        records=[record(job_id=charge.job.pk)], known={charge.job.pk: charge}, now=timezone.now()
    )
    assert Job.objects.get().state == JobState.ENDED
    assert Run.objects.get().state == RunState.RUNNING


@pytest.mark.parametrize(("passed", "mirrored"), [(timedelta(0), 0), (agents.MIRRORED_AFTER, 1)])
def test_only_what_does_not_end_at_once_is_mirrored(
    passed: timedelta, mirrored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Charge] = []
    agent = Agent(
        reading=inventory.read_node(name="here", cpu_slots=2), launcher=SimulatedLauncher(), send=sent.append
    )
    kept, ended = running_commands(2)
    now = timezone.now()
    for charge in (kept, ended):
        charge.job.node_id = agent._node.pk  # type: ignore[assignment]
        charge.job.placed_at = now - passed
        agent._announce(charge)
    agent._forget([ended.job.pk])
    monkeypatch.setattr(timezone, "now", lambda: now)
    agent._mirror()
    assert sent == [kept][:mirrored]
    agent._mirror()
    assert len(sent) == mirrored


def test_what_was_placed_for_another_node_is_told_at_once() -> None:
    sent: list[Charge] = []
    reading = inventory.read_node(name="here", cpu_slots=2)
    agent = Agent(reading=reading, launcher=SimulatedLauncher(), send=sent.append)
    elsewhere: Sequence[Charge] = running_commands(1)
    agent._announce(elsewhere[0])
    assert sent == elsewhere
