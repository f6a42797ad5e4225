"""Who is in the queue, what is free, why a run waits; stopping and steering."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from experiments.models import Run
from experiments.states import JobState, RunState
from scheduler import dispatch, draining, queue, stopping
from scheduler.models import Device, Job, Launch, Lease, Node, TickRequest
from scheduler.queries import jobs_of, waiting_reasons
from tests.factories import NOW, make_cell, make_device, make_experiment, make_job, make_node, make_run

pytestmark = pytest.mark.django_db


def queued(**fields: object) -> Run:
    cell = make_cell(experiment=make_experiment(approved=True))
    return make_run(cell=cell, state=RunState.QUEUED, kind="command", **fields)


def requested() -> int:
    return TickRequest.objects.values_list("requested", flat=True).first() or 0


@pytest.mark.parametrize("fields", [{"cancel_requested_at": NOW}, {"ready_at": None, "turn_at": None}])
def test_a_run_that_is_cancelled_or_not_ready_is_not_in_the_queue(fields: dict[str, object]) -> None:
    ready = queued()
    queued(**fields)
    assert [run.run_id for run in queue.eligible_runs()] == [ready.pk]


@pytest.mark.parametrize(
    ("before", "eligible"), [(RunState.RUNNING, 0), (RunState.FAILED, 0), (RunState.SUCCEEDED, 1)]
)
def test_a_run_is_eligible_once_what_it_builds_on_succeeded(before: RunState, eligible: int) -> None:
    queued(depends_on=make_run(state=before))
    assert len(queue.eligible_runs()) == eligible


def test_only_what_is_free_is_offered() -> None:
    held, free = make_device(), make_device(memory_mib=100)
    make_job(devices=[held])
    make_device(node=free.node, state=Device.State.QUARANTINED)
    offered = {d.id: d.free_mib for node in queue.free_nodes() for d in node.devices if d.is_offered}
    assert offered == {held.pk: 0, free.pk: 100}


def test_a_node_that_never_had_an_agent_offers_nothing() -> None:
    make_device(node=make_node(session_renewed_at=None))
    assert queue.free_nodes() == []


def test_a_window_is_what_is_left_of_max_parallel() -> None:
    experiment = make_experiment(approved=True, max_parallel=3, open_jobs=2)
    make_run(cell=make_cell(experiment=experiment), state=RunState.QUEUED)
    assert queue.open_windows() == {experiment.pk: 1}


def test_a_run_that_needs_too_much_says_what_there_is() -> None:
    make_job(devices=[make_device()])
    run = queued()
    assert "needs 1 device; free now" in waiting_reasons()[run.pk]


def test_a_run_that_no_node_can_hold_says_so() -> None:
    make_device(memory_mib=100)
    run = queued(device_memory_mib=101)
    assert "no node could ever hold it" in waiting_reasons()[run.pk]


def test_a_run_that_builds_on_another_names_it() -> None:
    before = make_run(state=RunState.RUNNING, name="tiny/finetune")
    run = queued(depends_on=before)
    assert waiting_reasons() == {run.pk: "waits for tiny/finetune to succeed"}


def test_the_jobs_of_a_run_are_listed_in_their_order() -> None:
    run = make_run()
    jobs = [make_job(runs=[run], state=JobState.ENDED) for _ in range(2)]
    assert jobs_of(run) == jobs


def test_stopping_asks_every_open_job_once_and_places_nothing() -> None:
    job, _ = make_job(), make_job(state=JobState.ENDED)
    assert stopping.stop_jobs(now=NOW) == 1
    assert stopping.stop_jobs(now=timezone.now()) == 1
    job.refresh_from_db()
    assert job.cancel_requested_at == NOW
    assert TickRequest.objects.get().is_stopping


def test_an_undrained_device_is_used_at_once() -> None:
    device = make_device(state=Device.State.QUARANTINED, state_message="Somebody is on it.")
    before = requested()
    assert draining.undrain(device_ids=[device.pk], user=None) == 1
    device.refresh_from_db()
    assert (device.state, device.state_message) == (Device.State.AVAILABLE, "")
    assert requested() == before + 1
    queued()
    assert dispatch.tick(now=timezone.now(), send=lambda job: None) == 1


def test_draining_leaves_a_quarantine_as_it_is_and_asks_for_nothing() -> None:
    device = make_device(state=Device.State.QUARANTINED)
    assert draining.drain(device_ids=[device.pk], user=None, now=NOW).new == 0
    assert draining.undrain(device_ids=[make_device().pk], user=None) == 0
    assert requested() == 0


def test_the_database_refuses_what_must_never_be() -> None:
    job = make_job()
    launch, lease = job.launches.get(), job.leases.get()
    for change in (
        lambda: Launch.objects.create(job=job, run=launch.run, is_open=False),
        lambda: Lease.objects.create(job=job, device=lease.device, memory_mib=1),
        lambda: Node.objects.update(allocated_cpu_threads=9),
        lambda: Device.objects.create(node=job.node, index=0, uuid="other", memory_mib=1),
        lambda: TickRequest.objects.create(pk=2),
        lambda: Run.objects.update(fencing_token=None, state=RunState.RUNNING),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
    assert Job.objects.count() == 1
