"""The tick against a real database: what it places, what it refuses, and that two at once give nothing twice."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from django.utils import timezone

from experiments.models import Experiment, Run
from experiments.specs import CommandSpec, Outcome, spec_to_json
from experiments.states import JobState, RunKind, RunState
from scheduler import applying, dispatch, ending
from scheduler.allocation import Placement, QueueItem
from scheduler.models import Device, Job, Launch, Lease, Node, TickRequest
from scheduler.ticker import Ticker, resume
from tests.factories import NOW, make_cell, make_device, make_experiment, make_job, make_node, make_run

pytestmark = pytest.mark.django_db(transaction=True)

COMMAND = {"kind": RunKind.COMMAND, "spec": spec_to_json(CommandSpec(argv=("true",)))}


def queue_runs(count: int, *, experiment: Experiment | None = None, **needs: object) -> list[Run]:
    experiment = experiment or make_experiment(approved=True, max_parallel=100)
    cell = make_cell(experiment=experiment)
    return [make_run(cell=cell, state=RunState.QUEUED, **COMMAND, **needs) for _ in range(count)]


def tick() -> list[int]:
    """The ids of the jobs whose messages were sent."""
    sent: list[int] = []
    dispatch.tick(now=timezone.now(), send=lambda charge: sent.append(charge.job.pk))
    return sent


def test_a_tick_places_a_run_and_tells_of_it_after_commit() -> None:
    device = make_device()
    (run,) = queue_runs(1)
    (job_id,) = tick()
    run.refresh_from_db(), device.refresh_from_db()
    assert (run.state, run.fencing_token) == (RunState.RUNNING, job_id)
    assert device.allocated_mib == device.memory_mib
    assert Job.objects.get().state == JobState.PLACED


def test_a_second_tick_places_nothing_twice() -> None:
    make_device()
    queue_runs(2)
    assert (len(tick()), len(tick())) == (1, 0)


def test_max_parallel_is_a_window_of_open_jobs() -> None:
    node = make_node()
    for _ in range(4):
        make_device(node=node)
    runs = queue_runs(4, experiment=make_experiment(approved=True, max_parallel=2))
    first, second = tick()
    assert tick() == []
    job = Job.objects.get(pk=first)
    ending.end_job(job=job, record=None, outcomes={runs[0].pk: Outcome(succeeded=True)}, log_tail="", now=NOW)
    assert len(tick()) == 1


def test_a_run_waits_for_the_one_that_it_builds_on() -> None:
    node = make_node()
    make_device(node=node), make_device(node=node)
    (before,) = queue_runs(1)
    make_run(cell=before.cell, state=RunState.QUEUED, depends_on=before, **COMMAND)
    assert len(tick()) == 1
    assert tick() == []


def test_ending_a_job_gives_everything_back_once() -> None:
    node = make_node(host_memory_mib=100)
    make_device(node=node)
    (run,) = queue_runs(1, host_memory_mib=60, cpu_threads=2)
    tick()
    job = Job.objects.get()
    outcomes = {run.pk: Outcome(succeeded=True)}
    assert ending.end_job(job=job, record=None, outcomes=outcomes, log_tail="", now=NOW) is True
    assert ending.end_job(job=job, record=None, outcomes=outcomes, log_tail="", now=NOW) is False
    node.refresh_from_db()
    assert (node.allocated_host_memory_mib, node.allocated_cpu_threads) == (0, 0)
    assert Device.objects.get().allocated_mib == 0
    assert Experiment.objects.get().open_jobs == 0
    assert not Launch.objects.filter(is_open=True).exists()
    assert not Lease.objects.filter(released_at__isnull=True).exists()


def test_ending_a_job_requests_a_tick() -> None:
    make_device()
    (run,) = queue_runs(1)
    tick()
    resume()
    before = TickRequest.objects.get().requested
    ending.end_job(
        job=Job.objects.get(), record=None, outcomes={run.pk: Outcome(succeeded=True)}, log_tail="", now=NOW
    )
    assert TickRequest.objects.get().requested == before + 1


def test_the_ticker_serves_all_that_was_requested() -> None:
    make_device()
    resume()
    queue_runs(1)
    dispatch.request_tick(), dispatch.request_tick()
    sent: list[int] = []
    assert Ticker(send=lambda charge: sent.append(charge.job.pk)).step() == 1
    row = TickRequest.objects.get()
    assert row.served == row.requested
    assert len(sent) == 1


def test_nothing_is_placed_while_labmgr_is_being_stopped() -> None:
    make_device()
    queue_runs(1)
    TickRequest.objects.create(is_stopping=True)
    assert tick() == []
    resume()
    assert len(tick()) == 1


def test_drained_devices_and_draining_nodes_take_nothing() -> None:
    make_device(state=Device.State.DRAINED)
    make_device(node=make_node(is_draining=True))
    queue_runs(1)
    assert tick() == []


@pytest.mark.parametrize("change", [{"cancel_requested_at": NOW}, {"turn_at": None}])
def test_a_placement_that_went_stale_leaves_nothing_behind(change: dict[str, object]) -> None:
    """It was cancelled meanwhile, or what it builds on is run again."""
    device = make_device()
    (run,) = queue_runs(1)
    item = QueueItem(run_ids=(run.pk,), experiment_id=run.cell.experiment_id, order=(0,))
    stale = Placement(item=item, node=device.node.name, device_ids=(device.pk,))
    Run.objects.filter(pk=run.pk).update(**change)
    placed = applying.apply(
        placements=[stale], now=NOW, send=lambda job: pytest.fail("a stale placement was sent")
    )
    assert placed == 0
    assert not Job.objects.exists()
    assert (Device.objects.get().allocated_mib, Experiment.objects.get().open_jobs) == (0, 0)


def test_concurrent_ticks_give_nothing_twice() -> None:
    node = make_node()
    for _ in range(3):
        make_device(node=node)
    queue_runs(10, experiment=make_experiment(approved=True, max_parallel=2))
    ready = threading.Barrier(4)

    def race() -> None:
        ready.wait()
        tick()
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Run.objects.filter(state=RunState.RUNNING).count() == 2
    assert Experiment.objects.get().open_jobs == 2
    held = Lease.objects.filter(released_at__isnull=True)
    assert held.count() == held.values("device").distinct().count() == 2


def test_the_database_refuses_a_second_open_job_of_a_run() -> None:
    job = make_job()
    run = job.launches.get().run
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(runs=[run], devices=[make_device()])


def test_the_database_refuses_to_give_more_of_a_device_than_it_has() -> None:
    device = make_device()
    with pytest.raises(IntegrityError), transaction.atomic():
        Device.objects.filter(pk=device.pk).update(allocated_mib=device.memory_mib + 1)


def test_the_database_refuses_to_give_more_host_memory_than_there_is() -> None:
    node = make_node(host_memory_mib=10)
    with pytest.raises(IntegrityError), transaction.atomic():
        Node.objects.filter(pk=node.pk).update(allocated_host_memory_mib=11)


def test_shares_add_up_to_what_their_device_holds() -> None:
    make_device(memory_mib=100)
    queue_runs(3, device_memory_mib=40)
    assert len(tick()) == 2
    assert Device.objects.aggregate(given=Sum("allocated_mib"))["given"] == 80
