"""The admin shows the lab to its people, and edits nothing that machines wrote."""

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from experiments.models import Calibration, Experiment
from experiments.states import CellType, RunKind, RunState
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
from tests.integration.admin_client import client_of, url

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
        calibration = Calibration.objects.create(
            metric="seconds", key=model.name, model_name=model.name, fitted_at=NOW
        )
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


def queries_of(client: Client, address: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


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
    "name",
    [
        "experiments_run",
        "scheduler_job",
        "scheduler_device",
        "experiments_observation",
        "experiments_calibration",
    ],
)
def test_what_machines_write_cannot_be_posted(admin: Client, name: str) -> None:
    row = fill()[name]
    before = type(row)._default_manager.filter(pk=row.pk).values().get()
    assert admin.post(url(f"{name}_change", row.pk), {"state": "SUCCEEDED", "value": "9"}).status_code == 403
    assert admin.post(url(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403
    assert type(row)._default_manager.filter(pk=row.pk).values().get() == before


@pytest.mark.parametrize("name", ["experiments_run", "scheduler_job", "experiments_calibration"])
def test_what_machines_write_cannot_be_added(admin: Client, name: str) -> None:
    assert admin.get(url(f"{name}_add")).status_code == 403


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


def test_the_way_to_a_page_has_the_names_as_they_are(people: People) -> None:
    demo = make_experiment(name="demo", approved=True)
    address = url("experiments_experiment_change", demo.pk)
    page = client_of(people.colleague).get(address).content.decode()
    text = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert "Experiments chevron_right Experiments chevron_right demo" in text
    assert "Demo" not in text
