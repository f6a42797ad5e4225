"""Observations, calibrations and estimates over HTTP."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from experiments.conditions import FIELDS
from experiments.models import Observation
from tests import factories
from tests.conftest import People
from tests.integration.api_client import API, client_of

SPEED: dict[str, Any] = {
    "metric": "seconds_per_step",
    "value": "4it/s",
    "said": {"model": "m", "batch_size": 4, "packed": False},
}


@pytest.fixture
def colleague(people: People) -> APIClient:
    return client_of(people.colleague)


@pytest.fixture
def keeper(db: None) -> APIClient:
    names = ("view_observation", "add_observation", "change_observation")
    user = factories.make_user(username="keeper", permissions=[f"experiments.{name}" for name in names])
    return client_of(user)


def incomplete(**fields: object) -> Observation:
    defaults = {
        "metric": "startup_seconds",
        "model_shape": "llama",
        "recipe": "lora_finetune_single_device",
        "is_complete": False,
        "incomplete_because": "It is not known: the device.",
        "source_tree": "/tree",
    }
    return factories.make_observation(**{**defaults, **fields})


def found(client: APIClient, query: str) -> list[int]:
    response = client.get(f"{API}/observations/?{query}")
    assert response.status_code == 200, response.data
    return [row["id"] for row in response.data["results"]]


def test_observations_are_narrowed(colleague: APIClient) -> None:
    told = factories.make_observation(told_by="anna", model_name="1B")
    read = incomplete()
    other = factories.make_observation(model_shape="llama h2048")
    assert found(colleague, f"ids={told.pk},{other.pk}") == [other.pk, told.pk]
    assert found(colleague, "is_told=true") == [told.pk]
    assert found(colleague, "is_told=false") == [other.pk, read.pk]
    assert found(colleague, "model=1B") == [told.pk]
    assert found(colleague, "model_shape=llama h2048") == [other.pk]
    assert found(colleague, "source_tree=/tree") == [read.pk]
    assert found(colleague, "is_complete=false") == [read.pk]
    assert colleague.get(f"{API}/observations/?ids=1,x").status_code == 400


def test_an_observation_has_all_its_conditions_and_what_is_missing(colleague: APIClient) -> None:
    row = colleague.get(f"{API}/observations/{incomplete().pk}/").data
    assert set(FIELDS) <= set(row)
    assert row["incomplete_because"] == "It is not known: the device."
    assert row["batch_size"] is None


@pytest.mark.parametrize("value", ["4it/s", 0.25])
def test_a_figure_is_told_under_ones_name(keeper: APIClient, value: object) -> None:
    response = keeper.post(f"{API}/observations/", {**SPEED, "value": value}, format="json")
    assert response.status_code == 201, response.data
    assert (response.data["value"], response.data["told_by"], response.data["said"]) == (
        0.25,
        "keeper",
        SPEED["said"],
    )
    assert Observation.objects.get().told_by == "keeper"


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": "speed"},
        {"value": "fast"},
        {"value": 0},
        {"value": None},
        {"value": [1]},
        {"said": {"model": "m"}},
        {"said": {**SPEED["said"], "batch": 4}},
        {"said": {**SPEED["said"], "packed": "no"}},
        {"said": {**SPEED["said"], "batch_size": 1e12}},
        {"said": [1]},
    ],
)
def test_a_figure_that_cannot_be_taken_is_refused(keeper: APIClient, changed: dict[str, Any]) -> None:
    response = keeper.post(f"{API}/observations/", {**SPEED, **changed}, format="json")
    assert response.status_code == 400
    assert not Observation.objects.exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"metric": "\xff"}', b'{"value": NaN}'])
def test_what_is_no_figure_is_refused(keeper: APIClient, body: bytes) -> None:
    for address in ("observations/", "observations/complete/"):
        response = keeper.post(f"{API}/{address}", body, content_type="application/json")
        assert response.status_code == 400
    assert not Observation.objects.exists()


def test_observations_are_completed_by_their_ids(keeper: APIClient) -> None:
    one, other = incomplete(), incomplete()
    body = {"ids": [one.pk, 999_999], "said": {"device": "A100"}}
    response = keeper.post(f"{API}/observations/complete/", body, format="json")
    assert (response.status_code, response.data) == (200, {"chosen": 1, "complete": 1})
    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.device_kind, one.completed_by, other.is_complete) == ("A100", "keeper", False)


def test_a_whole_tree_is_completed(keeper: APIClient) -> None:
    incomplete(), incomplete()
    elsewhere = incomplete(source_tree="/elsewhere")
    body = {"source_tree": "/tree", "said": {"device": "A100"}}
    response = keeper.post(f"{API}/observations/complete/", body, format="json")
    assert response.data == {"chosen": 2, "complete": 2}
    elsewhere.refresh_from_db()
    assert not elsewhere.is_complete


@pytest.mark.parametrize(
    "body",
    [
        {"said": {"device": "A100"}},
        {"ids": [1], "source_tree": "/tree", "said": {"device": "A100"}},
        {"ids": ["x"], "said": {"device": "A100"}},
        {"source_tree": "/tree", "said": {}},
        {"source_tree": "/tree", "said": {"devise": "A100"}},
        {"source_tree": "/tree"},
    ],
)
def test_what_cannot_be_completed_so_changes_nothing(keeper: APIClient, body: dict[str, Any]) -> None:
    one = incomplete()
    before = Observation.objects.filter(pk=one.pk).values().get()
    assert keeper.post(f"{API}/observations/complete/", body, format="json").status_code == 400
    assert Observation.objects.filter(pk=one.pk).values().get() == before


@pytest.mark.parametrize(
    ("held", "address"), [("add", "observations/complete/"), ("change", "observations/")]
)
def test_telling_and_completing_have_permissions_of_their_own(db: None, held: str, address: str) -> None:
    one = incomplete()
    names = ["experiments.view_observation", f"experiments.{held}_observation"]
    client = client_of(factories.make_user(permissions=names))
    body = {"ids": [one.pk], **SPEED}
    assert client.post(f"{API}/{address}", body, format="json").status_code == 403
    one.refresh_from_db()
    assert (one.is_complete, Observation.objects.count()) == (False, 1)


def test_the_planners_running_error_is_told(colleague: APIClient) -> None:
    assert colleague.get(f"{API}/calibrations/errors/").data == []
    for actual in (80.0, 125.0):
        run = factories.make_run()
        factories.make_estimate(run=run, value=100.0, actual=actual, compared_at=factories.NOW)
    (error,) = colleague.get(f"{API}/calibrations/errors/").data
    assert (error["metric"], error["grade"], error["n"]) == ("seconds", "interpolated", 2)
    assert error["mean_absolute_error"] == pytest.approx(0.225)
    assert error["bias"] == pytest.approx(0.025)


def test_a_run_tells_its_estimates_with_their_observations_and_what_it_was(colleague: APIClient) -> None:
    run = factories.make_run()
    factories.make_estimate(run=run, observation_ids=[3, 5], actual=90.0, compared_at=factories.NOW)
    (estimate,) = colleague.get(f"{API}/runs/{run.pk}/").data["estimates"]
    assert (estimate["value"], estimate["actual"], estimate["observation_ids"]) == (100.0, 90.0, [3, 5])
    assert "estimates" not in colleague.get(f"{API}/runs/").data["results"][0]
