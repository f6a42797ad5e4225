"""What the API shows: lists, runs, and its own description."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from experiments import queries
from experiments.models import Calibration
from experiments.states import JobState, RunState
from scheduler import queries as scheduler_queries
from tests import factories
from tests.conftest import People
from tests.integration.api_client import API, client_of


@pytest.fixture
def owner(people: People) -> APIClient:
    return client_of(people.owner)


def _ids(client: APIClient, address: str) -> list[Any]:
    response = client.get(f"{API}/{address}")
    assert response.status_code == 200, response.data
    return [row.get("id", row.get("name")) for row in response.data["results"]]


def test_the_root_names_the_lists(owner: APIClient) -> None:
    lists = owner.get(f"{API}/").data
    assert {
        "datasets",
        "models",
        "experiments",
        "runs",
        "jobs",
        "devices",
        "observations",
        "calibrations",
    } <= set(lists)
    assert {owner.get(address).status_code for address in lists.values()} == {200}
    assert APIClient().get(f"{API}/").status_code == 401


def test_lists_are_narrowed(owner: APIClient, people: People) -> None:
    mine = factories.make_experiment(name="mine", approved=True, created_by=people.owner)
    factories.make_experiment(name="draft")
    queued = factories.make_run(cell=factories.make_cell(experiment=mine), state=RunState.QUEUED)
    failed = factories.make_run(state=RunState.FAILED)
    score = factories.make_observation(run=queued, metric="exact_match")
    factories.make_observation(run=failed, metric="seconds_per_step")
    assert _ids(owner, "experiments/?is_draft=false") == ["mine"]
    assert _ids(owner, "experiments/?created_by=owner") == ["mine"]
    assert _ids(owner, "runs/?experiment=mine") == [queued.pk]
    assert _ids(owner, "runs/?state=FAILED&kind=simulated") == [failed.pk]
    assert _ids(owner, "runs/?reason=EXIT_CODE") == [failed.pk]
    assert _ids(owner, "runs/?kind=finetune") == []
    assert _ids(owner, "observations/?metric=exact_match") == [score.pk]
    assert _ids(owner, "observations/?experiment=mine") == [score.pk]
    assert owner.get(f"{API}/runs/?state=LOST").status_code == 400


def test_a_list_comes_in_pages(owner: APIClient) -> None:
    runs = [factories.make_run() for _ in range(3)]
    page = owner.get(f"{API}/runs/?limit=2").data
    assert (page["count"], [row["id"] for row in page["results"]]) == (3, [runs[2].pk, runs[1].pk])
    assert [row["id"] for row in owner.get(page["next"]).data["results"]] == [runs[0].pk]


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    "address",
    ["experiments", "runs", "jobs", "devices", "nodes", "observations", "calibrations", "datasets", "models"],
)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(
    owner: APIClient, address: str, rows: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    _populate(rows)
    with django_assert_max_num_queries(10):
        response = owner.get(f"{API}/{address}/")
    assert response.data["count"] >= rows


def _populate(rows: int) -> None:
    for _ in range(rows):
        run = factories.make_run(state=RunState.RUNNING)
        factories.make_job(runs=[run], devices=[factories.make_device(), factories.make_device()])
        factories.make_dataset()
        model = factories.make_base_model()
        observation = factories.make_observation(run=run, base_model=model)
        fitted = Calibration.objects.create(
            metric="seconds_per_step", key=model.name, model_name=model.name, fitted_at=factories.NOW
        )
        fitted.observations.add(observation)


def test_a_calibration_leads_to_its_observations(owner: APIClient) -> None:
    _populate(2)
    first = owner.get(f"{API}/calibrations/").data["results"][0]
    assert first["observations_count"] == 1
    assert len(_ids(owner, f"observations/?calibration={first['id']}")) == 1


def test_a_run_tells_its_jobs_and_what_it_waits_for(
    owner: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = factories.make_run(state=RunState.QUEUED)
    lost = factories.make_job(runs=[waiting], state=JobState.ENDED)
    monkeypatch.setattr(
        scheduler_queries, "waiting_reasons", lambda: {waiting.pk: "needs 2 devices; 1 is free"}
    )
    data = owner.get(f"{API}/runs/{waiting.pk}/").data
    assert data["waiting_for"] == "needs 2 devices; 1 is free"
    assert data["jobs"] == [lost.pk]
    assert data["spec"]["kind"] == "simulated"


def test_nobody_asks_why_an_ended_run_waits(owner: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.make_run(state=RunState.SUCCEEDED)
    monkeypatch.setattr(scheduler_queries, "waiting_reasons", lambda: pytest.fail("asked"))
    assert owner.get(f"{API}/runs/").data["results"][0]["waiting_for"] == ""


def test_a_run_is_cancelled(owner: APIClient, people: People) -> None:
    experiment = factories.make_experiment(created_by=people.owner, approved=True)
    run = factories.make_run(cell=factories.make_cell(experiment=experiment), state=RunState.QUEUED)
    assert owner.post(f"{API}/runs/{run.pk}/cancel/").status_code == 202
    assert owner.get(f"{API}/runs/{run.pk}/").data["reason"] == "CANCELLED_BY_USER"


def test_the_log_is_plain_text(owner: APIClient, tmp_path: Path, settings: Any) -> None:
    settings.RUN_ROOT = tmp_path
    (tmp_path / "output.log").write_text("".join(f"line {n}\n" for n in range(10)))
    run = factories.make_run(state=RunState.RUNNING, directory=str(tmp_path))
    response = owner.get(f"{API}/runs/{run.pk}/log/?lines=2", HTTP_ACCEPT="text/plain")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.content == b"line 8\nline 9"
    assert owner.get(f"{API}/runs/{run.pk}/log/?lines=0").status_code == 400
    assert owner.get(f"{API}/runs/{factories.make_run().pk}/log/").content == b""


def test_a_loss_that_is_no_number_is_null(owner: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run = factories.make_run(state=RunState.RUNNING)
    monkeypatch.setattr(queries, "loss_curve", lambda run: [(1, 2.5), (2, float("nan"))])
    response = owner.get(f"{API}/runs/{run.pk}/loss/")
    assert response.json() == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": None}]


@pytest.mark.parametrize("address", ["runs", "jobs", "devices", "nodes", "calibrations"])
def test_what_machines_write_cannot_be_written(people: People, address: str) -> None:
    people.owner.is_superuser = True
    people.owner.save()
    client = client_of(people.owner)
    assert client.post(f"{API}/{address}/", {}, format="json").status_code == 405
    assert client.patch(f"{API}/{address}/1/", {}, format="json").status_code == 405
    assert client.delete(f"{API}/{address}/1/").status_code == 405


def test_the_schema_is_valid(db: None) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=os.devnull)


def test_schema_and_pages_are_for_people_with_an_account(people: People) -> None:
    for address in ("/api/schema/", "/api/docs/"):
        assert client_of(people.owner).get(address).status_code == 200
        assert APIClient().get(address).status_code == 401


@pytest.mark.parametrize(
    "address", ["experiments", "runs", "jobs", "devices", "observations", "datasets", "models"]
)
def test_a_list_can_be_read_in_a_browser(people: People, address: str) -> None:
    _populate(1)
    client = APIClient()
    client.force_login(people.owner)
    response = client.get(f"{API}/{address}/", HTTP_ACCEPT="text/html")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
