"""What people do in the admin: plan, approve, cancel, drain; and who may not."""

import io

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.utils.html import escape

from experiments.models import Experiment, Run
from experiments.states import RunState
from scheduler.models import Device
from tests.conftest import People
from tests.factories import make_cell, make_device, make_experiment, make_run, make_user
from tests.integration.admin_client import client_of, url

SIMULATED = "name: sleepers\nfactors: {length: [1, 2]}\nsimulated: {duration_seconds: 1}\n"


def mine_and_run(people: People, state: str = RunState.QUEUED) -> tuple[Experiment, Run]:
    draft = state == RunState.PLANNED
    mine = make_experiment(created_by=people.owner, approved=not draft)
    return mine, make_run(cell=make_cell(experiment=mine), state=state)


def test_a_document_becomes_a_draft(people: People) -> None:
    answer = client_of(people.owner).post(url("experiments_experiment_add"), {"document": SIMULATED})
    draft = Experiment.objects.get(name="sleepers")
    assert answer["Location"] == url("experiments_experiment_change", draft.pk)
    assert (draft.is_draft, draft.created_by) == (True, people.owner)


def test_a_file_goes_before_the_text(people: People) -> None:
    file = SimpleUploadedFile("plan.yaml", SIMULATED.encode())
    client_of(people.owner).post(url("experiments_experiment_add"), {"document": "name: other", "file": file})
    assert [experiment.name for experiment in Experiment.objects.all()] == ["sleepers"]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("name: [", "It is not YAML"),
        ("", "not a mapping"),
        ("name: x\nsimulatd: {duration_seconds: 1}", "Did you mean &#x27;simulated&#x27;"),
        ("name: x\ncommand: {argv: [ls]}", "experiments.run_commands"),
    ],
)
def test_a_bad_document_is_refused_with_what_to_do(people: People, document: str, told: str) -> None:
    page = client_of(people.owner).post(url("experiments_experiment_add"), {"document": document})
    assert page.status_code == 200
    assert told in page.content.decode()
    assert escape(document) in page.content.decode()  # still there to be corrected
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("content", [b"a" * (256 * 1024 + 1), b"\xff\xfe"])
def test_a_file_that_is_too_large_or_no_text_is_refused(people: People, content: bytes) -> None:
    form = {"document": "", "file": SimpleUploadedFile("plan.yaml", content)}
    page = client_of(people.owner).post(url("experiments_experiment_add"), form)
    assert "problem" in page.content.decode()
    assert not Experiment.objects.exists()


def test_an_approved_name_is_refused(people: People) -> None:
    make_experiment(name="sleepers", approved=True)
    page = client_of(people.owner).post(url("experiments_experiment_add"), {"document": SIMULATED})
    assert "approved already" in page.content.decode()


def test_a_colleague_may_not_add_an_experiment(people: People) -> None:
    answer = client_of(people.colleague).post(url("experiments_experiment_add"), {"document": SIMULATED})
    assert answer.status_code == 403


def test_approving_queues_the_runs(people: People) -> None:
    mine, run = mine_and_run(people, RunState.PLANNED)
    page = client_of(people.owner).get(url("experiments_experiment_change", mine.pk)).content.decode()
    assert "Approve this plan?" in page
    client_of(people.owner).post(url("experiments_experiment_approve", mine.pk))
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


def test_approving_twice_says_so(people: People) -> None:
    mine, _ = mine_and_run(people, RunState.PLANNED)
    owner, address = client_of(people.owner), url("experiments_experiment_approve", mine.pk)
    owner.post(address)
    assert "is approved already" in owner.post(address, follow=True).content.decode()


def test_a_colleague_is_not_offered_and_not_allowed_to_approve(people: People) -> None:
    mine, run = mine_and_run(people, RunState.PLANNED)
    colleague = client_of(people.colleague)
    assert (
        "Approve this plan?"
        not in colleague.get(url("experiments_experiment_change", mine.pk)).content.decode()
    )
    assert colleague.post(url("experiments_experiment_approve", mine.pk)).status_code == 403
    run.refresh_from_db()
    assert run.state == RunState.PLANNED


def test_approving_takes_a_post_with_a_token(people: People) -> None:
    mine, run = mine_and_run(people, RunState.PLANNED)
    assert client_of(people.owner).get(url("experiments_experiment_approve", mine.pk)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(people.owner)
    assert strict.post(url("experiments_experiment_approve", mine.pk)).status_code == 403
    run.refresh_from_db()
    assert run.state == RunState.PLANNED


@pytest.mark.parametrize("what", ["experiment", "run"])
def test_only_the_owner_and_who_controls_any_run_may_cancel(people: People, what: str) -> None:
    mine, run = mine_and_run(people)
    address = url(f"experiments_{what}_cancel", mine.pk if what == "experiment" else run.pk)
    assert client_of(people.colleague).post(address).status_code == 403
    assert state_of(run) == RunState.QUEUED
    client_of(people.owner).post(address)
    assert state_of(run) == RunState.CANCELLED


def test_who_controls_any_run_may_cancel_it(people: People) -> None:
    _, run = mine_and_run(people)
    lead = make_user(permissions=["experiments.view_run", "experiments.control_any_run"])
    client_of(lead).post(url("experiments_run_cancel", run.pk))
    assert state_of(run) == RunState.CANCELLED


def test_cancelling_what_has_ended_says_that_there_was_nothing_to_cancel(people: People) -> None:
    mine, run = mine_and_run(people, RunState.SUCCEEDED)
    for address in (url("experiments_experiment_cancel", mine.pk), url("experiments_run_cancel", run.pk)):
        answer = client_of(people.owner).post(address)
        assert "There was nothing to cancel" in str(next(iter(get_messages(answer.wsgi_request))))
    out = io.StringIO()
    call_command("cancel", mine.name, stdout=out)
    assert out.getvalue() == f"{mine.name}: nothing to cancel, it has ended already.\n"
    run.refresh_from_db()
    assert (run.state, run.cancel_requested_at) == (RunState.SUCCEEDED, None)


def test_who_is_refused_is_told_why_and_finds_back(people: People) -> None:
    mine, _ = mine_and_run(people)
    told = client_of(people.colleague).post(url("experiments_experiment_cancel", mine.pk)).content.decode()
    assert "experiments.control_any_run is needed" in told
    assert f'href="{url("index")}"' in told
    missing = client_of(people.owner).get("/nothing/")
    assert (missing.status_code, "To the dashboard" in missing.content.decode()) == (404, True)


def state_of(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def drain(client: Client, device: Device, action: str) -> None:
    client.post(url("scheduler_device_changelist"), {"action": action, "_selected_action": [device.pk]})


def test_a_device_is_drained_and_undrained_by_permission(people: People) -> None:
    device = make_device()
    drain(client_of(people.colleague), device, "drain")
    device.refresh_from_db()
    assert device.state == Device.State.AVAILABLE
    keeper = client_of(make_user(permissions=["scheduler.view_device", "scheduler.change_device"]))
    for action, state in (("drain", Device.State.DRAINED), ("undrain", Device.State.AVAILABLE)):
        drain(keeper, device, action)
        device.refresh_from_db()
        assert device.state == state
