"""Pausing an experiment and the whole queue: nothing is started, what runs goes on, and everybody is told."""

import json
import threading

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError
from django.db import connection, connections, transaction
from django.utils import timezone

from experiments import steering
from experiments.fleet import AskedRun, Turn
from experiments.models import Experiment, Run
from experiments.states import RunState
from scheduler import applying, dispatch, pausing, queue
from scheduler.models import Device, Job, TickRequest
from scheduler.outlook import LabSchedule
from scheduler.queries import waiting_reasons
from scheduler.ticker import resume
from tests.factories import make_cell, make_device, make_experiment, make_job, make_node, make_run, make_user
from tests.integration.commands import command

pytestmark = pytest.mark.django_db(transaction=True)


def ranks(**fields: object) -> Experiment:
    return make_experiment(name="ranks", approved=True, max_parallel=100, **fields)


def queued(experiment: Experiment, count: int = 1) -> list[Run]:
    cell = make_cell(experiment=experiment)
    return [make_run(cell=cell, state=RunState.QUEUED) for _ in range(count)]


def devices(count: int) -> None:
    node = make_node(is_simulated=True)
    for _ in range(count):
        make_device(node=node, kind=Device.Kind.SIMULATED)


def tick() -> int:
    return dispatch.tick(now=timezone.now(), send=lambda job: None)


def test_nothing_of_a_paused_experiment_is_started_and_the_others_go_on() -> None:
    devices(3)
    paused, other = ranks(), make_experiment(approved=True)
    queued(paused), queued(other)
    steering.pause(experiment=paused, user=None, now=timezone.now())
    assert tick() == 1
    assert Job.objects.get().experiment == other


def test_what_runs_goes_on_while_its_experiment_is_paused() -> None:
    job = make_job(runs=[make_run(cell=make_cell(experiment=ranks()), state=RunState.RUNNING)])
    steering.pause(experiment=job.experiment, user=None, now=timezone.now())
    job.refresh_from_db()
    assert (job.cancel_requested_at, job.is_open) == (None, True)


def test_a_paused_run_is_never_the_head_for_which_others_wait() -> None:
    devices(2)
    paused, other = ranks(), make_experiment(approved=True)
    (gang,) = queued(paused)
    Run.objects.filter(pk=gang.pk).update(devices=2)
    make_job(
        runs=[make_run(cell=make_cell(experiment=other), state=RunState.RUNNING)],
        devices=[Device.objects.all()[0]],
    )
    queued(other)
    assert (tick(), Run.objects.queued().count()) == (0, 2)  # it would delay the gang
    steering.pause(experiment=paused, user=None, now=timezone.now())
    assert tick() == 1


def test_an_experiment_that_goes_on_is_looked_at_at_once() -> None:
    devices(1)
    experiment = ranks()
    queued(experiment)
    steering.pause(experiment=experiment, user=None, now=timezone.now())
    resume()
    before = TickRequest.objects.get().requested
    assert steering.unpause(experiment=experiment, user=None, now=timezone.now())
    assert TickRequest.objects.get().requested == before + 1
    assert tick() == 1


def test_a_second_pause_keeps_who_was_first() -> None:
    experiment, ana = ranks(), make_user(username="ana", permissions=["experiments.control_any_run"])
    assert steering.pause(experiment=experiment, user=ana, now=timezone.now())
    assert not steering.pause(experiment=experiment, user=None, now=timezone.now())
    experiment.refresh_from_db()
    assert experiment.paused_by == "ana"
    assert steering.unpause(experiment=experiment, user=None, now=timezone.now())
    assert not steering.unpause(experiment=experiment, user=None, now=timezone.now())


def test_a_tick_that_decided_before_a_pause_places_nothing_after_it() -> None:
    devices(4)
    paused, other = ranks(), make_experiment(approved=True, max_parallel=9)
    queued(paused, 2), queued(other, 2)
    decided = queue.decide(now=timezone.now()).placements
    assert len(decided) == 4
    steering.pause(experiment=paused, user=None, now=timezone.now())
    assert applying.apply(placements=decided, now=timezone.now(), send=lambda job: None) == 2
    assert set(Job.objects.values_list("experiment__name", flat=True)) == {other.name}
    assert Device.objects.filter(allocated_mib__gt=0).count() == 2


def test_a_tick_that_decided_before_the_queue_was_paused_places_nothing_after_it() -> None:
    devices(2)
    queued(ranks(), 2)
    decided = queue.decide(now=timezone.now()).placements
    assert pausing.pause_queue(user=None, now=timezone.now())
    assert applying.apply(placements=decided, now=timezone.now(), send=lambda job: None) == 0
    assert not Job.objects.exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_a_pause_of_the_queue_outwaits_what_is_being_placed() -> None:
    devices(1)
    queued(ranks())
    decided = queue.decide(now=timezone.now()).placements
    locked, paused = threading.Event(), threading.Event()

    def pause() -> None:
        locked.wait()
        pausing.pause_queue(user=None, now=timezone.now())
        paused.set()
        connections.close_all()

    pauser = threading.Thread(target=pause)
    pauser.start()
    with transaction.atomic():
        assert applying.apply(placements=decided, now=timezone.now(), send=lambda job: None) == 1
        locked.set()
        assert not paused.wait(0.5)  # it has been asked for, and what was placed before is not committed yet
    assert paused.wait(10)
    pauser.join()


def test_nothing_races_past_a_pause() -> None:
    """Ticks race with a pause; what is placed when it has returned stays all there is."""
    devices(8)
    queued(ranks(), 8)
    ready = threading.Barrier(5)

    def race() -> None:
        ready.wait()
        for _ in range(5):
            dispatch.tick(now=timezone.now(), send=lambda job: None, most=1)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait()
    pausing.pause_queue(user=None, now=timezone.now())
    placed = Job.objects.count()
    for thread in threads:
        thread.join()
    assert Job.objects.count() == placed


def test_a_persons_pause_of_the_queue_outlasts_a_restart() -> None:
    devices(1)
    queued(ranks())
    pausing.pause_queue(user=None, now=timezone.now())
    resume()
    assert tick() == 0
    assert pausing.unpause_queue(user=None)
    assert tick() == 1


def test_only_who_may_control_any_run_pauses_the_queue() -> None:
    with pytest.raises(PermissionDenied, match="experiments.control_any_run"):
        pausing.pause_queue(user=make_user(), now=timezone.now())
    with pytest.raises(PermissionDenied, match="experiments.control_any_run"):
        pausing.unpause_queue(user=make_user())
    assert not TickRequest.objects.filter(paused_at__isnull=False).exists()


def test_what_waits_says_who_paused_it_and_since_when() -> None:
    devices(1)
    (run,) = queued(ranks())
    command("pause", "ranks")
    assert waiting_reasons()[run.pk].startswith("ranks is paused by the operator since 20")
    command("pause")
    assert waiting_reasons()[run.pk].startswith("the queue is paused by the operator since 20")


def test_a_draft_is_not_paused() -> None:
    draft = make_experiment(name="draft")
    for word in ("pause", "unpause"):
        with pytest.raises(CommandError, match="'draft' is a draft"):
            command(word, "draft")
    draft.refresh_from_db()
    assert draft.paused_at is None


def test_commands_say_what_they_did() -> None:
    ranks()
    assert command("pause", "ranks") == "ranks: paused; what runs goes on.\n"
    assert command("pause", "ranks") == "ranks: paused already.\n"
    assert command("unpause", "ranks") == "ranks: goes on.\n"
    assert command("unpause", "ranks") == "ranks: was not paused.\n"
    assert command("pause") == "The queue: paused; what runs goes on.\n"
    assert command("unpause") == "The queue: goes on.\n"
    with pytest.raises(CommandError, match="no experiment 'rankz'.*ranks"):
        command("pause", "rankz")


def test_status_shows_what_is_paused() -> None:
    queued(ranks())
    command("pause", "ranks"), command("pause")
    first, second = command("status").splitlines()[:2]
    assert first.startswith("The queue is paused by the operator since ")
    assert "; is paused by the operator since " in second
    told = json.loads(command("status", "--json"))
    assert told["paused"] and told["experiments"][0]["paused"]


def test_a_forecast_leaves_out_what_is_paused_and_says_so() -> None:
    devices(1)
    other = make_experiment(name="other", approved=True)
    queued(ranks(), 3), queued(other)
    command("pause", "ranks")
    told = command("forecast").splitlines()
    assert told[0].startswith("other: 1 run, ")
    assert told[1].startswith("ranks: 3 runs: left out, since ranks is paused by the operator since ")
    assert command("forecast", "ranks").splitlines() == [told[1]]
    command("pause")
    assert all("left out, since the queue is paused by" in line for line in command("forecast").splitlines())


def test_a_plan_has_no_start_while_the_queue_is_paused() -> None:
    devices(1)
    asked = AskedRun(
        seconds=60.0, devices=1, device_memory_mib=None, host_memory_mib=0, cpu_threads=1,
        pool="", limit_seconds=60, priority=0, simulated=True,
    )  # fmt: skip
    assert LabSchedule().turns(runs=[asked], max_parallel=1, now=timezone.now())[0].start_at
    pausing.pause_queue(user=None, now=timezone.now())
    assert LabSchedule().turns(runs=[asked], max_parallel=1, now=timezone.now()) == [Turn()]
