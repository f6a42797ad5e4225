"""Draining nodes and devices: by commands, the API and the admin, by whom, why, and what waiting runs say of it."""

import re
from typing import Any

import pytest
from django.core.management import CommandError
from django.utils import timezone

from experiments.states import RunState
from scheduler import applying, dispatch, draining, queue
from scheduler.models import Device, Job, Node
from scheduler.queries import waiting_reasons
from tests.conftest import People
from tests.factories import (
    NOW,
    make_cell,
    make_device,
    make_experiment,
    make_job,
    make_node,
    make_run,
    make_user,
)
from tests.integration import admin_client, api_client
from tests.integration.admin_client import url
from tests.integration.api_client import API
from tests.integration.commands import command

SEEING = ["scheduler.view_device", "scheduler.view_node"]


@pytest.fixture
def node(db: None) -> Node:
    """Two simulated devices, and a run that wants one."""
    node = make_node(name="gallium", is_simulated=True)
    for _ in range(2):
        make_device(node=node, kind=Device.Kind.SIMULATED)
    cell = make_cell(experiment=make_experiment(approved=True))
    make_run(cell=cell, state=RunState.QUEUED)
    return node


@pytest.fixture
def keeper(db: None) -> Any:
    return make_user(username="keeper", permissions=[*SEEING, "scheduler.change_device"])


def tick() -> int:
    return dispatch.tick(now=timezone.now(), send=lambda job: None)


def reason() -> str:
    return undated(next(iter(waiting_reasons().values())))


def undated(text: str) -> str:
    return re.sub(r" on \d{4}-\d\d-\d\d \d\d:\d\d(?=[:.])", "", text)


def test_a_drained_node_takes_nothing_until_it_is_undrained(node: Node) -> None:
    told = command("drain", "gallium", "--because", "new fans")
    assert told == "gallium: takes no new jobs; what runs there goes on.\n"
    assert tick() == 0
    assert "drained; not offered: gallium (Drained by the operator: new fans)" in reason()
    assert command("undrain", "gallium") == "gallium: takes jobs again.\n"
    assert command("undrain", "gallium") == "gallium: was not drained.\n"
    node.refresh_from_db()
    assert node.drain_message == ""
    assert tick() == 1


def test_a_drained_device_leaves_the_others(node: Node) -> None:
    command("drain", "gallium:0", "--because", "It is hot.")
    assert tick() == 1
    assert Job.objects.get().leases.get().device.index == 1
    make_run(cell=make_cell(experiment=make_experiment(approved=True)), state=RunState.QUEUED)
    assert "not offered: gallium:0 (Drained by the operator: It is hot)" in reason()
    command("undrain", "gallium:0")
    assert tick() == 1


def test_what_runs_on_a_drained_node_goes_on(db: None) -> None:
    job = make_job()
    draining.drain_nodes(node_ids=[job.node.pk], user=None, now=NOW)
    draining.drain(device_ids=[job.leases.get().device_id], user=None, now=NOW)
    job.refresh_from_db()
    assert (job.is_open, job.cancel_requested_at) == (True, None)


def test_a_tick_that_decided_before_a_drain_places_nothing_there(node: Node) -> None:
    decided = queue.decide(now=timezone.now()).placements
    draining.drain_nodes(node_ids=[node.pk], user=None, now=NOW)
    assert applying.apply(placements=decided, now=timezone.now(), send=lambda job: None) == 0


def test_undraining_says_what_keeps_it_from_taking_jobs_all_the_same(node: Node) -> None:
    command("drain", "gallium:1"), command("drain", "gallium")
    told = command("undrain", "gallium:1")
    assert told == "gallium:1: takes jobs again, but its node is drained: undrain gallium.\n"
    command("drain", "gallium:1")
    assert command("undrain", "gallium") == "gallium: takes jobs again, without gallium:1.\n"


@pytest.mark.parametrize("word", ["drain", "undrain"])
def test_what_is_not_there_is_refused_with_what_is(node: Node, word: str) -> None:
    with pytest.raises(CommandError, match="no node 'gall'. Nodes: gallium"):
        command(word, "gall")
    with pytest.raises(CommandError, match="no node 'gall'"):
        command(word, "gall:0")
    with pytest.raises(CommandError, match="Node gallium has no device 7. See `devices`"):
        command(word, "gallium:7")
    Device.objects.filter(index=1).update(state=Device.State.GONE)
    with pytest.raises(CommandError, match="no device 1"):
        command(word, "gallium:1")


def test_devices_shows_who_drained_the_node(node: Node) -> None:
    command("drain", "gallium", "--because", "new fans")
    lines = undated(command("devices")).splitlines()
    assert len(lines) == 2
    assert all("DRAINED" in line and "Drained by the operator: new fans." in line for line in lines)


@pytest.mark.parametrize("what", ["nodes", "devices"])
def test_over_http_it_needs_a_permission(node: Node, people: People, keeper: Any, what: str) -> None:
    row: Any = node if what == "nodes" else node.devices.get(index=0)
    drain, undrain = (f"{API}/{what}/{row.pk}/{word}/" for word in ("drain", "undrain"))
    colleague, steering = api_client.client_of(people.colleague), api_client.client_of(keeper)
    assert colleague.post(drain).status_code == 403
    assert draining_message(row) == ""
    assert steering.post(drain, {"because": "new fans"}, format="json").status_code == 200
    assert draining_message(row) == "Drained by keeper: new fans."
    assert "new fans" in str(colleague.get(f"{API}/{what}/{row.pk}/").data)
    assert colleague.post(undrain).status_code == 403
    assert steering.post(undrain).status_code == 200
    assert draining_message(row) == ""


@pytest.mark.parametrize("what", ["node", "device"])
def test_on_its_page_it_needs_a_permission(node: Node, people: People, keeper: Any, what: str) -> None:
    row: Any = node if what == "node" else node.devices.get(index=0)
    drain, undrain, page = (
        url(f"scheduler_{what}_{word}", row.pk) for word in ("drain", "undrain", "change")
    )
    colleague, steering = admin_client.client_of(people.colleague), admin_client.client_of(keeper)
    assert "Drain: take no new jobs" not in colleague.get(page).content.decode()
    assert colleague.post(drain, {"because": "spite"}).status_code == 403
    assert draining_message(row) == ""
    assert "Drain: take no new jobs" in steering.get(page).content.decode()
    steering.post(drain, {"because": "new fans"})
    assert draining_message(row) == "Drained by keeper: new fans."
    assert "new fans" in colleague.get(page).content.decode()
    assert "new fans" in colleague.get(url(f"scheduler_{what}_changelist")).content.decode()
    assert colleague.post(undrain).status_code == 403
    assert steering.get(undrain).status_code == 405
    assert "Undrain: take jobs again" in steering.get(page).content.decode()
    steering.post(undrain)
    assert draining_message(row) == ""


def test_the_page_of_a_device_says_that_its_node_is_drained(node: Node, people: People) -> None:
    draining.drain_nodes(node_ids=[node.pk], user=None, now=NOW, because="new fans")
    page = url("scheduler_device_change", node.devices.get(index=0).pk)
    told = admin_client.client_of(people.colleague).get(page).content.decode()
    assert "Its node takes no new jobs. Drained by the operator on " in told and ": new fans." in told


def test_nodes_are_drained_from_their_list(node: Node, people: People, keeper: Any) -> None:
    address = url("scheduler_node_changelist")
    for user, message in ((people.colleague, ""), (keeper, "Drained by keeper.")):
        admin_client.client_of(user).post(address, {"action": "drain", "_selected_action": [node.pk]})
        assert draining_message(node) == message
    admin_client.client_of(keeper).post(address, {"action": "undrain", "_selected_action": [node.pk]})
    assert draining_message(node) == ""


BAD_REASONS = [("x" * 2000, "has 2,000 characters"), ("new\0fans", "null character")]


@pytest.mark.parametrize(("because", "told"), BAD_REASONS)
def test_a_reason_that_cannot_be_kept_drains_nothing(
    node: Node, keeper: Any, because: str, told: str
) -> None:
    with pytest.raises(CommandError, match=told):
        command("drain", "gallium", "--because", because)
    page = post(keeper, "drain", node, because=because)
    assert told in page and draining_message(node) == ""
    answer = api_client.client_of(keeper).post(f"{API}/nodes/{node.pk}/drain/", {"because": because})
    assert answer.status_code == 400
    assert draining_message(node) == ""


def test_a_reason_is_kept_on_one_line(node: Node) -> None:
    command("drain", "gallium", "--because", " new fans\n  and filters.\n")
    assert draining_message(node) == "Drained by the operator: new fans and filters."


def test_a_drain_says_when(node: Node) -> None:
    draining.drain_nodes(node_ids=[node.pk], user=None, now=NOW, because="new fans")
    node.refresh_from_db()
    assert node.drain_message == "Drained by the operator on 2026-01-02 12:00: new fans."


@pytest.mark.parametrize("place", ["gallium", "gallium:0"])
def test_the_command_says_who_drained_it_before_and_takes_another_reason(
    node: Node, keeper: Any, place: str
) -> None:
    row: Any = node if place == "gallium" else node.devices.get(index=0)
    drain = draining.drain_nodes if place == "gallium" else draining.drain
    drain(
        **{"node_ids" if place == "gallium" else "device_ids": [row.pk]},
        user=keeper,
        now=NOW,
        because="new fans",
    )
    by_keeper = "Drained by keeper on 2026-01-02 12:00: new fans."
    assert command("drain", place) == f"{place}: takes no jobs already. {by_keeper}\n"
    assert (
        command("drain", place, "--because", "new fans.") == f"{place}: takes no jobs already. {by_keeper}\n"
    )
    assert draining_message(row) == "Drained by keeper: new fans."
    told = command("drain", place, "--because", "no fans")
    assert told == f"{place}: takes no jobs already, and has another reason now. Before: {by_keeper}\n"
    assert draining_message(row) == "Drained by the operator: no fans."


def test_over_http_it_is_told_who_drained_it_before(node: Node, keeper: Any) -> None:
    client = api_client.client_of(keeper)
    for address in (f"nodes/{node.pk}", f"devices/{node.devices.get(index=0).pk}"):
        drain = f"{API}/{address}/drain/"
        assert client.post(drain, {"because": "new fans"}, format="json").data["drained_before"] is None
        told = client.post(drain, {"because": "no fans"}, format="json").data
        assert undated(told["drained_before"]) == "Drained by keeper: new fans."
        assert undated(told.get("drain_message", told.get("state_message"))) == "Drained by keeper: no fans."


def test_the_admin_says_who_drained_it_before_and_offers_another_reason(node: Node, keeper: Any) -> None:
    draining.drain_nodes(node_ids=[node.pk], user=None, now=NOW, because="new fans")
    by_the_operator = "Drained by the operator on 2026-01-02 12:00: new fans."
    page = admin_client.client_of(keeper).get(url("scheduler_node_change", node.pk))
    assert "Say another reason" in page.content.decode()
    assert f"No new jobs were taken already. {by_the_operator}" in post(keeper, "drain", node)
    assert "Drained already, and has another reason now." in post(keeper, "drain", node, because="no fans")
    assert draining_message(node) == "Drained by keeper: no fans."


def test_what_labmgr_found_keeps_its_words(node: Node, keeper: Any) -> None:
    device = node.devices.get(index=0)
    for state in (Device.State.DRAINED, Device.State.QUARANTINED):
        Device.objects.filter(pk=device.pk).update(state=state, state_message="It is lost.")
        told = command("drain", "gallium:0", "--because", "no fans")
        assert told == "gallium:0: takes no jobs already. It is lost.\n"
        page = url("scheduler_device_change", device.pk)
        assert "Say another reason" not in admin_client.client_of(keeper).get(page).content.decode()
        device.refresh_from_db()
        assert (device.state, device.state_message) == (state, "It is lost.")


def test_undraining_what_was_not_drained_says_so(node: Node, keeper: Any) -> None:
    assert "1 drained." in post(keeper, "drain", node)
    assert "1 undrained." in post(keeper, "undrain", node)
    assert "Nothing was drained there." in post(keeper, "undrain", node)


def test_a_device_that_is_gone_is_not_offered_for_draining(node: Node, keeper: Any) -> None:
    device = node.devices.get(index=0)
    page = url("scheduler_device_change", device.pk)
    assert "Drain: take no new jobs" in admin_client.client_of(keeper).get(page).content.decode()
    Device.objects.filter(pk=device.pk).update(state=Device.State.GONE)
    assert "Drain: take no new jobs" not in admin_client.client_of(keeper).get(page).content.decode()


def post(user: Any, what: str, node: Node, **form: str) -> str:
    """The page that answers it, with its message."""
    address = url(f"scheduler_node_{what}", node.pk)
    return str(admin_client.client_of(user).post(address, form, follow=True).content.decode())


def draining_message(row: Any) -> str:
    row.refresh_from_db()
    return undated(row.drain_message if isinstance(row, Node) else row.state_message)
