"""The admin shows the lab to its people, lets them plan, approve and cancel, and edits nothing that machines wrote."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from experiments.models import Calibration, Experiment, Run
from experiments.states import CellType, RunKind, RunState
from scheduler.models import Device
from tests.conftest import People
from tests.factories import (
    NOW,
    make_base_model,
    make_cell,
    make_dataset,
    make_device,
    make_experiment,
    make_job,
    make_node,
    make_observation,
    make_run,
    make_user,
)

MODELS = [
    "experiments_experiment",
    "experiments_run",
    "experiments_dataset",
    "experiments_basemodel",
    "experiments_observation",
    "experiments_calibration",
    "scheduler_job",
    "scheduler_device",
    "scheduler_node",
]
SIMULATED = "name: sleepers\nfactors: {length: [1, 2]}\nsimulated: {duration_seconds: 1}\n"


def fill(rows: int = 1) -> dict[str, Model]:
    """So many rows of everything; the last of each by the name of its pages."""
    experiment = make_experiment(approved=True)
    last: dict[str, Model] = {}
    for _ in range(rows):
        model, dataset, device = make_base_model(), make_dataset(), make_device(node=make_node())
        cell = make_cell(experiment=experiment, base_model=model, dataset=dataset)
        run = make_run(cell=cell, state=RunState.RUNNING)
        job = make_job(runs=[run], devices=[device])
        make_run(cell=cell, state=RunState.QUEUED)
        observation = make_observation(run=run, base_model=model)
        calibration = Calibration.objects.create(metric="seconds", base_model=model, fitted_at=NOW)
        last = dict(
            zip(
                MODELS,
                [make_experiment(), run, dataset, model, observation, calibration, job, device, device.node],
                strict=True,
            )
        )
    return last


@pytest.fixture
def admin(db: None) -> Client:
    return client_of(make_user(username="boss", is_superuser=True))


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:{name}", args=args)


def queries_of(client: Client, address: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def mine_and_run(people: People, state: str = RunState.QUEUED) -> tuple[Experiment, Run]:
    draft = state == RunState.PLANNED
    mine = make_experiment(created_by=people.owner, approved=not draft)
    return mine, make_run(cell=make_cell(experiment=mine), state=state)


@pytest.mark.parametrize("name", MODELS)
def test_every_list_and_page_is_shown(admin: Client, name: str) -> None:
    row = fill()[name]
    assert admin.get(url(f"{name}_changelist")).status_code == 200
    assert admin.get(url(f"{name}_change", row.pk)).status_code == 200


@pytest.mark.parametrize("name", MODELS)
def test_a_list_needs_as_many_queries_for_many_rows_as_for_few(admin: Client, name: str) -> None:
    fill(2)
    admin.get(url(f"{name}_changelist"))
    few = queries_of(admin, url(f"{name}_changelist"))
    fill(6)
    assert queries_of(admin, url(f"{name}_changelist")) <= few + 2


@pytest.mark.parametrize("page", ["change", "cells", "summary"])
def test_an_experiment_needs_as_many_queries_for_many_cells_as_for_few(admin: Client, page: str) -> None:
    experiment = make_experiment(approved=True)
    address = url(f"experiments_experiment_{page}", experiment.pk)
    for _ in range(2):
        make_run(cell=make_cell(experiment=experiment), state=RunState.RUNNING)
    few = queries_of(admin, address)
    for _ in range(20):
        make_run(cell=make_cell(experiment=experiment), state=RunState.QUEUED)
    assert queries_of(admin, address) <= few + 2


def test_the_dashboard_needs_as_many_queries_for_many_rows_as_for_few(admin: Client) -> None:
    fill(2)
    few = queries_of(admin, url("experiments_run_dashboard"))
    fill(6)
    assert queries_of(admin, url("experiments_run_dashboard")) <= few + 2


def test_an_empty_dashboard_says_what_to_do_first(admin: Client) -> None:
    page = admin.get("/admin/").content.decode()
    assert "./lab demo" in page
    assert "./lab up" in page


def test_the_dashboard_shows_who_holds_a_device_and_why_a_run_waits(admin: Client) -> None:
    row = fill()
    page = admin.get("/admin/").content.decode()
    assert str(row["scheduler_device"]) in page
    assert str(row["experiments_run"]) in page
    assert "Waiting" in page


def test_a_staff_person_without_permissions_sees_no_rows(db: None) -> None:
    run = fill()["experiments_run"]
    client = client_of(make_user())
    assert str(run) not in client.get("/admin/").content.decode()
    assert client.get(url("experiments_run_live", run.pk)).status_code == 403


@pytest.mark.parametrize("path", ["index", "experiments_run_dashboard", "experiments_experiment_add"])
def test_an_outsider_is_sent_to_the_login(people: People, path: str) -> None:
    answer = client_of(people.outsider).get(url(path))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_the_live_part_of_a_run_polls_until_it_has_ended(admin: Client) -> None:
    running, ended = make_run(state=RunState.RUNNING), make_run(state=RunState.FAILED)
    assert "every 2s" in admin.get(url("experiments_run_live", running.pk)).content.decode()
    last = admin.get(url("experiments_run_live", ended.pk))
    assert "every 2s" not in last.content.decode()
    assert last["HX-Refresh"] == "true"


def test_text_from_machines_is_escaped(admin: Client) -> None:
    run = make_run(
        state=RunState.FAILED, message="<script>alert(1)</script>", log_tail="<script>alert(2)</script>"
    )
    for page in (url("experiments_run_change", run.pk), url("experiments_run_changelist"), "/admin/"):
        assert "<script>alert" not in admin.get(page).content.decode()


@pytest.mark.parametrize(
    "name", ["experiments_run", "scheduler_job", "scheduler_device", "experiments_observation"]
)
def test_what_machines_write_cannot_be_posted(admin: Client, name: str) -> None:
    row = fill()[name]
    before = type(row)._default_manager.filter(pk=row.pk).values().get()
    assert admin.post(url(f"{name}_change", row.pk), {"state": "SUCCEEDED", "value": "9"}).status_code == 403
    assert admin.get(url(f"{name}_add")).status_code == 403
    assert admin.post(url(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403
    assert type(row)._default_manager.filter(pk=row.pk).values().get() == before


def test_the_facts_of_a_model_stay_as_verified(admin: Client) -> None:
    model = make_base_model(parameter_count=7)
    form = {"name": "renamed", "path": model.path, "parameter_count": "8", "problem": "none"}
    assert admin.post(url("experiments_basemodel_change", model.pk), form).status_code == 302
    model.refresh_from_db()
    assert (model.name, model.parameter_count, model.problem) == ("renamed", 7, "")


def test_a_dataset_outside_the_declared_roots_is_refused(admin: Client) -> None:
    dataset = make_dataset()
    form = {"name": dataset.name, "path": "/etc/passwd", "format": "json_splits"}
    page = admin.post(url("experiments_dataset_change", dataset.pk), form).content.decode()
    dataset.refresh_from_db()
    assert "declared roots" in page
    assert dataset.path != "/etc/passwd"


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


def state_of(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def drain(client: Client, device: Device, action: str) -> None:
    client.post(url("scheduler_device_changelist"), {"action": action, "_selected_action": [device.pk]})


def test_a_device_is_drained_and_resumed_by_permission(people: People) -> None:
    device = make_device()
    drain(client_of(people.colleague), device, "drain")
    device.refresh_from_db()
    assert device.state == Device.State.AVAILABLE
    keeper = client_of(make_user(permissions=["scheduler.view_device", "scheduler.change_device"]))
    for action, state in (("drain", Device.State.DRAINED), ("resume", Device.State.AVAILABLE)):
        drain(keeper, device, action)
        device.refresh_from_db()
        assert device.state == state


def scored() -> Experiment:
    experiment = make_experiment(name="scored", approved=True)
    cell = make_cell(experiment=experiment, name="=cmd", type=CellType.CONTROL, levels={"lora_rank": 4})
    spec = {
        "kind": "evaluate",
        "model_name": "m",
        "model_path": "/m",
        "data": {"path": "/d", "format": "json_splits", "split": "test"},
        "rows": 2,
    }
    run = make_run(cell=cell, kind=RunKind.EVALUATE, state=RunState.SUCCEEDED, spec=spec)
    make_observation(run=run, metric="exact_match", value=0.75)
    return experiment


def test_the_summary_has_the_table_and_the_plot(admin: Client) -> None:
    page = admin.get(url("experiments_experiment_summary", scored().pk)).content.decode()
    assert "0.75" in page
    assert "data-chart" in page
    assert "lora_rank" in page


@pytest.mark.parametrize(
    ("format", "check"),
    [
        ("csv", lambda text: "'=cmd" in text),
        ("md", lambda text: text.startswith("| name")),
        ("json", lambda text: '"experiment": "scored"' in text),
    ],
)
def test_the_summary_is_exported(admin: Client, format: str, check: Callable[[str], bool]) -> None:
    answer = admin.get(url("experiments_experiment_export", scored().pk, format))
    assert check(answer.content.decode())
    assert f"scored.{format}" in answer["Content-Disposition"]


def test_an_unknown_export_is_not_found(admin: Client) -> None:
    assert admin.get(f"/admin/experiments/experiment/{scored().pk}/summary.exe").status_code == 404
