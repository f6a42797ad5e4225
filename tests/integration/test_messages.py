"""Messages wake and mirror. Lost, late or doubled, they change nothing; and no wake-up is lost."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from experiments.models import Run, RunEvent
from experiments.states import JobState, RunState
from scheduler import dispatch, residents, tasks, ticker
from scheduler.agent import Agent
from scheduler.inventory import read_simulated
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Device, Job, Lease, TickRequest
from tests.factories import make_cell, make_device, make_experiment, make_job, make_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    reading = read_simulated(name="sim", text="1x1GiB")
    made = Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda job: None)
    monkeypatch.setitem(residents._agents, "sim", made)
    yield made


def state() -> list[Any]:
    return [list(model.objects.values()) for model in (Job, Run, RunEvent, Device, Lease, TickRequest)]


@pytest.mark.parametrize("job_state", [None, JobState.ENDED, JobState.RUNNING])
def test_a_message_about_a_job_that_is_not_open_here_changes_nothing(
    agent: Agent, job_state: JobState | None
) -> None:
    job_id = make_job(state=job_state).pk if job_state else 404
    before = state()
    for _ in range(2):
        tasks.attach(job_id=job_id, of_a_newer_sender=True)
    assert state() == before


def test_a_doubled_message_waits_beside_the_first_and_both_end_with_the_agent(agent: Agent) -> None:
    job = make_job()
    type(job.node).objects.filter(pk=job.node_id).update(name="sim")
    before = state()
    waiting = [threading.Thread(target=tasks.attach, kwargs={"job_id": job.pk}) for _ in range(2)]
    for thread in waiting:
        thread.start()
    agent.stop()
    for thread in waiting:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in waiting)
    assert state() == before


def test_messages_are_json_and_carry_the_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert current_app.conf.accept_content == ["json"] and current_app.conf.task_serializer == "json"
    sent: dict[str, Any] = {}
    monkeypatch.setattr(tasks.attach, "apply_async", lambda **message: sent.update(message))
    tasks._announce(7, "gpu.here.0", "cap/rank4")
    assert json.loads(json.dumps(sent["kwargs"])) == {"job_id": 7}
    assert (sent["queue"], sent["shadow"]) == ("gpu.here.0", "cap/rank4")


def test_a_broker_that_is_away_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionRefusedError("no broker")

    monkeypatch.setattr(tasks.attach, "apply_async", refuse)
    tasks._announce(7, "gpu.here.0", "cap/rank4")


def test_a_simulated_node_has_one_queue_and_a_real_one_a_queue_a_device(settings: Any) -> None:
    settings.NODE_NAME, settings.CPU_SLOTS, settings.SIMULATED_DEVICES = "here", 2, "4x80GiB"
    real, simulated = residents.readings()
    assert residents.queues_of(simulated) == ["gpu.here-simulated.0"]
    assert residents.queues_of(real) == [f"gpu.here.{device.index}" for device in real.devices]


def test_no_request_is_lost_when_many_come_at_once() -> None:
    ready = threading.Barrier(4)

    def request() -> None:
        ready.wait()
        for _ in range(5):
            dispatch.request_tick()
        connection.close()

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert TickRequest.objects.get().requested == 20


def test_what_is_requested_during_a_tick_is_served_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ticker.resume()
    dispatch.request_tick()
    ticks: list[int] = []

    def tick_while_something_ends(**_: Any) -> int:
        ticks.append(1)
        if len(ticks) == 1:
            dispatch.request_tick()
        return 0

    monkeypatch.setattr(dispatch, "tick", tick_while_something_ends)
    resident = ticker.Ticker(send=lambda job: None)
    for _ in range(3):  # the last finds nothing to serve
        resident.step()
    row = TickRequest.objects.get()
    assert (len(ticks), row.served, row.requested) == (2, 2, 2)


def test_the_ticker_places_what_is_queued_without_any_message() -> None:
    make_device()
    placed = threading.Event()
    resident = ticker.Ticker(send=lambda job: placed.set())
    resident.start()
    try:
        cell = make_cell(experiment=make_experiment(approved=True))
        make_run(cell=cell, state=RunState.QUEUED, kind="command")
        dispatch.request_tick()
        assert placed.wait(20)
    finally:
        resident.stop()
        resident.join(20)
    assert not resident.is_alive()


def test_a_clock_that_was_set_back_stops_no_tick() -> None:
    make_device()
    make_run(cell=make_cell(experiment=make_experiment(approved=True)), state=RunState.QUEUED, kind="command")
    TickRequest.objects.create(pk=1, ticked_at=timezone.now() + timedelta(hours=1))
    assert ticker.Ticker(send=lambda job: None).step() == 1
    assert TickRequest.objects.filter(ticked_at__lte=timezone.now()).exists()
