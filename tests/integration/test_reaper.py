"""What is taken from a node that is away, when, and what it must prove when it is back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from experiments.models import Experiment, Run, RunEvent
from experiments.specs import Outcome, SimulatedSpec, spec_to_json
from experiments.states import FinishReason, JobState, RunState
from scheduler import dispatch, losing, queue, reaper, ticker
from scheduler import ending as ending_of_jobs
from scheduler.agent import Agent
from scheduler.inventory import read_simulated
from scheduler.launchers import fence, process_tree, records
from scheduler.launchers.base import Adoption, Ending, LaunchRequest
from scheduler.launchers.local import LocalLauncher
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import ControlPlane, Device, Job, Lease, Node
from scheduler.placed import paths_of
from scheduler.reaper import Reaper
from tests.factories import NOW, make_cell, make_device, make_experiment, make_job, make_node, make_run
from tests.integration.launching import LONG_SECONDS, ending, endings
from tests.integration.locks import on_its_own_connection, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)

AGO = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    made = LocalLauncher()
    yield made
    for job in Job.objects.all():
        if made.adopt(job_id=job.pk, control_dir=paths_of(job).control) is Adoption.RUNNING:
            made.cancel(job_id=job.pk)
            endings(made, count=1)
    made.close()


def job_on_a_lost_node(
    *, on_node_lost: str = "requeue", stops_jobs: bool = True, state: str = JobState.RUNNING, **run: Any
) -> Job:
    """Its node's session ran out."""
    node = make_node(
        session_renewed_at=Now() - AGO - AGO, session_expires_at=Now() - AGO, session_stops_jobs=stops_jobs
    )
    experiment = make_experiment(approved=True, on_node_lost=on_node_lost, open_jobs=1)
    carried = make_run(cell=make_cell(experiment=experiment), state=RunState.RUNNING, **run)
    job = make_job(runs=[carried], devices=[make_device(node=node)], state=state, placed_at=NOW)
    Run.objects.filter(pk=carried.pk).update(fencing_token=job.pk)
    return job


def reap() -> int:
    ControlPlane.objects.get_or_create(pk=1)
    ControlPlane.objects.update(reaper_passed_at=Now(), reaper_waits_until=None)
    return Reaper().look()


def only_run() -> Run:
    return Run.objects.get()


@pytest.mark.parametrize("state", [JobState.PLACED, JobState.CLAIMED, JobState.RUNNING, JobState.ENDING])
def test_the_runs_of_a_lost_node_are_queued_again_and_avoid_it(state: JobState) -> None:
    job = job_on_a_lost_node(state=state)
    assert reap() == 1
    job.refresh_from_db()
    run = only_run()
    assert (job.state, job.ending) == (JobState.ENDED, "NODE_LOST")
    assert (run.state, run.reason, run.avoided_node) == (
        RunState.QUEUED,
        FinishReason.NODE_LOST,
        job.node.name,
    )
    assert f"Its node {job.node.name} was last heard of at" in run.message
    assert not job.launches.filter(is_open=True).exists()
    assert Experiment.objects.get().open_jobs == 0
    assert reap() == 0


def test_its_devices_are_kept_until_it_has_proven_them_free() -> None:
    job = job_on_a_lost_node()
    reap()
    assert job.leases.filter(released_at__isnull=True).count() == 1
    assert Device.objects.get().allocated_mib > 0
    assert queue.free_nodes() == []


def test_what_may_wait_waits() -> None:
    job = job_on_a_lost_node(on_node_lost="wait")
    assert reap() == 0
    job.refresh_from_db()
    assert (job.state, only_run().state) == (JobState.RUNNING, RunState.RUNNING)


def test_a_clock_that_is_set_back_while_the_reaper_looks_damns_nobody() -> None:
    job = job_on_a_lost_node()
    Node.objects.update(session_renewed_at=Now(), session_expires_at=Now() + AGO)
    assert reaper.reap(now=timezone.now() + timedelta(hours=2)) == 0
    job.refresh_from_db()
    assert (job.state, Node.objects.get().session_lost_at) == (JobState.RUNNING, None)


def test_nothing_is_taken_from_a_node_that_does_not_stop_its_jobs() -> None:
    job_on_a_lost_node(stops_jobs=False)
    assert reap() == 0
    assert Node.objects.get().session_lost_at is None


def test_nothing_is_taken_from_a_node_that_renewed() -> None:
    job_on_a_lost_node()
    Node.objects.update(session_expires_at=Now() + AGO)
    assert reap() == 0


def test_an_agent_that_came_back_in_between_keeps_what_was_not_taken_yet() -> None:
    job_on_a_lost_node()
    Node.objects.update(session_lost_at=Now(), session_expires_at=Now() + AGO)
    assert reap() == 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("first", ["job", "experiment"])
def test_an_agent_that_comes_back_ends_its_jobs_while_they_are_being_taken(first: str) -> None:
    job = job_on_a_lost_node()
    outcomes = {only_run().pk: Outcome(succeeded=True)}
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():  # as far as an end has come when the reaper begins
            rows: Any = Job.objects.filter(pk=job.pk) if first == "job" else Experiment.objects.all()
            rows.select_for_update().get()
            reaping = threads.submit(on_its_own_connection, reap)
            until_somebody_waits_for_a_lock()
            Node.objects.select_for_update(nowait=True).get()
            if first == "job":
                assert ending_of_jobs.end_job(job=job, record=None, outcomes=outcomes, log_tail="", now=NOW)
        assert reaping.result(LONG_SECONDS) == (0 if first == "job" else 1)
    assert only_run().state == (RunState.SUCCEEDED if first == "job" else RunState.QUEUED)


def test_a_run_is_not_taken_for_ever() -> None:
    job_on_a_lost_node(launches_count=3)
    reap()
    assert (only_run().state, only_run().reason) == (RunState.FAILED, FinishReason.CRASH_LOOP)


def test_a_run_that_a_person_cancelled_stays_cancelled() -> None:
    job_on_a_lost_node(cancel_requested_at=NOW, cancel_requested_by="ada")
    reap()
    assert (only_run().state, only_run().message) == (RunState.CANCELLED, "Cancelled by ada.")


@pytest.mark.parametrize("passed_at", [None, Now() - AGO, Now() + AGO])
def test_after_a_time_in_which_it_could_not_look_it_waits_a_whole_period(
    passed_at: Any, settings: Any
) -> None:
    job_on_a_lost_node()
    ControlPlane.objects.create(reaper_passed_at=passed_at)
    assert Reaper().look() == 0
    row = ControlPlane.objects.get()
    assert row.reaper_waits_until - row.reaper_passed_at == timedelta(seconds=600)  # type: ignore[operator]
    assert Reaper().look() == 0
    ControlPlane.objects.update(reaper_waits_until=Now())
    assert Reaper().look() == 1


def test_a_clock_that_was_set_is_no_time_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    job_on_a_lost_node()
    ControlPlane.objects.create(reaper_passed_at=Now())
    monkeypatch.setattr(reaper, "look_every", lambda: -1.0)
    watching = Reaper()
    boot = process_tree_clock(monkeypatch)
    Node.objects.update(session_expires_at=Now() + AGO)
    assert watching.look() == 0
    boot["now"] -= 5.0  # five seconds by the database's clock, none by the machine's
    Node.objects.update(session_expires_at=Now() - AGO)
    assert watching.look() == 0
    assert watching.look() == 0, "it waits a whole period"


def process_tree_clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    clock = {"now": 0.0}
    real = reaper.boot_clock
    monkeypatch.setattr(reaper, "boot_clock", lambda: real() + clock["now"])
    return clock


def test_the_ticker_reaps(monkeypatch: pytest.MonkeyPatch) -> None:
    job_on_a_lost_node()
    ControlPlane.objects.create(reaper_passed_at=Now())
    running = ticker.Ticker(send=lambda job: None)
    running.start()
    try:
        for _ in range(int(LONG_SECONDS * 10)):
            if Job.objects.filter(state=JobState.ENDED).exists():
                return
            running._stopping.wait(0.1)
        pytest.fail("nothing was taken")
    finally:
        running.stop()
        running.join(20)


# What it must prove


def launched(job: Job, launcher: LocalLauncher, *argv: str, fence_file: Path | None = None) -> LaunchRequest:
    paths = paths_of(job)
    paths.directory.mkdir(parents=True, exist_ok=True)
    request = LaunchRequest(
        job_id=job.pk,
        argv=argv,
        env={"PATH": "/usr/bin:/bin"},
        cwd=paths.directory,
        log_path=paths.log,
        control_dir=paths.control,
        limit_seconds=60,
        grace_seconds=0.2,
        fence_file=fence_file,
    )
    launcher.submit(request)
    return request


def test_what_lives_of_a_taken_job_is_ended_before_its_devices_are_given_back(
    launcher: LocalLauncher,
) -> None:
    job = job_on_a_lost_node()
    launched(job, launcher, "sleep", "600")
    reap()
    assert losing.prove(node=job.node, launcher=launcher, now=NOW) is False
    assert Device.objects.get().allocated_mib > 0
    assert ending(launcher).ending is Ending.CANCELLED
    assert losing.prove(node=job.node, launcher=launcher, now=NOW) is True
    assert Device.objects.get().allocated_mib == 0
    assert not Lease.objects.filter(released_at__isnull=True).exists()
    assert only_run().state == RunState.QUEUED
    assert RunEvent.objects.filter(state=RunState.QUEUED).count() == 1


def test_a_taken_job_that_was_never_launched_is_gone() -> None:
    job = job_on_a_lost_node(state=JobState.PLACED)
    reap()
    assert losing.prove(node=job.node, launcher=SimulatedLauncher(), now=NOW)
    assert Device.objects.get().allocated_mib == 0


def test_where_it_cannot_be_told_the_device_is_quarantined(launcher: LocalLauncher) -> None:
    job = job_on_a_lost_node()
    control = paths_of(job).control
    control.mkdir(parents=True)
    (control / records.EXIT).write_text("{")
    reap()
    assert losing.prove(node=job.node, launcher=launcher, now=NOW)
    device = Device.objects.get()
    assert (device.state, device.allocated_mib) == (Device.State.QUARANTINED, 0)
    assert "cannot be read" in device.state_message
    (control / records.EXIT).unlink()


# What it does itself


def test_a_job_ends_at_the_fence(launcher: LocalLauncher, tmp_path: Path) -> None:
    job, path = job_on_a_lost_node(), tmp_path / "fence"
    fence.write(path, fence.NEVER)
    launched(job, launcher, "sleep", "600", fence_file=path)
    fence.write(path, 1.0)
    record = ending(launcher)
    assert record.ending is Ending.NODE_LOST
    assert "could not renew its session" in record.message


def test_a_job_that_comes_to_be_launched_behind_the_fence_is_not_started(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    job, path = job_on_a_lost_node(), tmp_path / "fence"
    fence.write(path, 1.0)
    launched(job, launcher, "touch", "started", fence_file=path)
    assert ending(launcher).ending is Ending.NODE_LOST
    assert not (paths_of(job).directory / "started").exists()


def test_a_job_goes_on_while_the_fence_moves_and_where_it_is_not_there(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    job, path = job_on_a_lost_node(), tmp_path / "fence"
    launched(job, launcher, "sleep", "1.2", fence_file=path)
    assert ending(launcher).ending is Ending.EXITED


def test_after_a_reboot_jobs_are_known_to_be_gone(launcher: LocalLauncher) -> None:
    job = job_on_a_lost_node()
    control = paths_of(job).control
    control.mkdir(parents=True)
    alive_by_chance = process_tree.find(1)
    before = records.SupervisorRecord(supervisor=alive_by_chance, boot_id="of another boot", started_at=0.0)
    records.write_supervisor(control, before)
    assert launcher.adopt(job_id=job.pk, control_dir=control) is Adoption.LOST
    record = ending(launcher)
    assert record.ending is Ending.SUPERVISOR_LOST
    assert "the machine was restarted" in record.message


def test_an_agent_whose_runs_were_taken_proves_them_gone_and_offers_its_devices_again() -> None:
    """And a run that was taken, and then ended all the same, is not ended twice."""
    reading = read_simulated(name="sim", text="1x1GiB")
    agent = Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda job: None)
    experiment = make_experiment(approved=True, on_node_lost="requeue")
    spec = spec_to_json(SimulatedSpec(duration_seconds=600))
    run = make_run(cell=make_cell(experiment=experiment), state=RunState.QUEUED, spec=spec)
    agent.step(timeout_seconds=0)
    dispatch.tick(now=timezone.now(), send=lambda job: None)
    agent.step(timeout_seconds=0)
    taken = Job.objects.get(state=JobState.RUNNING)
    Node.objects.update(session_stops_jobs=True, session_expires_at=Now() - AGO)
    assert reap() == 1
    agent._session._due = 0.0
    for _ in range(4):  # it hears of it, opens anew, ends what lives, gives back
        agent.step(timeout_seconds=0)
    assert Node.objects.get().session_lost_at is None
    assert Node.objects.get().session_epoch == 2
    assert not Lease.objects.filter(job=taken, released_at__isnull=True).exists()
    dispatch.tick(now=timezone.now(), send=lambda job: None)  # unless the agent has done so already
    run.refresh_from_db()
    assert (run.state, run.launches_count) == (RunState.RUNNING, 2)
    agent.stop()
