"""Experiments over HTTP: from a document to its summary."""

import pytest
from rest_framework.test import APIClient

from experiments.models import Experiment, Run
from experiments.states import RunState
from tests import factories
from tests.conftest import People
from tests.integration.api_client import API, client_of, simulated


@pytest.fixture
def owner(people: People) -> APIClient:
    return client_of(people.owner)


def test_a_document_is_stored_as_a_draft_with_its_plan(owner: APIClient, people: People) -> None:
    response = owner.post(f"{API}/experiments/", simulated(), format="json")
    assert response.status_code == 201, response.data
    assert response.data["is_draft"] and response.data["created_by"] == "owner"
    assert len(response.data["plan"]["runs"]) == 2
    assert Experiment.objects.get().created_by == people.owner
    assert owner.get(f"{API}/experiments/sleep/").data == response.data
    assert owner.get(f"{API}/experiments/sleep/plan/").data == response.data["plan"]


@pytest.mark.parametrize("content_type", ["application/yaml", "text/yaml", "application/yaml; charset=utf-8"])
def test_a_yaml_file_is_the_same_document(owner: APIClient, content_type: str) -> None:
    text = "name: sleep\nsimulated: {duration_seconds: 1}\nfactors: {seed: [0, 1]}\n"
    response = owner.post(f"{API}/experiments/", text, content_type=content_type)
    assert response.status_code == 201, response.data
    assert response.data["document"] == simulated()


def test_posting_again_replaces_the_draft(owner: APIClient) -> None:
    for levels in ([0], [0, 1, 2]):
        response = owner.post(f"{API}/experiments/", simulated(factors={"seed": levels}), format="json")
        assert response.status_code == 201, response.data
    assert Experiment.objects.count() == 1
    assert Run.objects.count() == 3


def test_the_name_of_an_approved_experiment_is_taken(owner: APIClient) -> None:
    factories.make_experiment(name="sleep", approved=True)
    response = owner.post(f"{API}/experiments/", simulated(), format="json")
    assert response.status_code == 409
    assert "sleep" in response.data["detail"]


def test_a_dry_plan_is_shown_and_nothing_stored(owner: APIClient) -> None:
    response = owner.post(f"{API}/experiments/plan/", simulated(), format="json")
    assert response.status_code == 200
    assert response.data["totals"]["cells"] == 2
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("address", ["experiments/", "experiments/plan/"])
def test_a_bad_document_gets_path_and_remedy_and_stores_nothing(owner: APIClient, address: str) -> None:
    response = owner.post(f"{API}/{address}", simulated(max_paralel=3), format="json")
    assert response.status_code == 400
    (error,) = response.data["errors"]
    assert error == {
        "path": "max_paralel",
        "message": "Unknown key 'max_paralel'.",
        "remedy": "Did you mean 'max_parallel'?",
    }
    assert not Experiment.objects.exists()


_YAML = "name: sleep\nsimulated: {duration_seconds: 1}\nquestion: "
_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b""),
        ("application/json", b"[]"),
        ("application/json", b"null"),
        ("application/json", b'{"name": '),
        ("application/json", b'{"name": "\xff"}'),
        ("application/json", b'{"name": "a", "fixed": {"x": NaN}}'),
        ("application/json", b'{"name": "a", "fixed": {"x": 1e999}}'),
        ("application/json", b'{"name": "a", "fixed": {"x": "\\ud800"}}'),
        ("application/json", b'{"name": "a", "question": "\\u0000", "simulated": {"duration_seconds": 1}}'),
        ("application/json", b'{"name": "a", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        ("application/yaml", b"- a list"),
        ("application/yaml", b"name: [unclosed"),
        ("application/yaml", b"\xff"),
        ("application/yaml", b"name: !!python/object/apply:os.system [id]"),
        ("application/yaml", f"{_YAML}2026-13-45".encode()),
        ("application/yaml", f"{_YAML}x\nfixed: {{x: 2026-01-01}}".encode()),
        ("application/yaml", f"{_YAML}x\nfixed: {{x: .inf}}".encode()),
        ("application/yaml", f"{_YAML}x\nfixed: {{x: {'9' * 5000}}}".encode()),
        ("application/yaml", f'{_YAML}"\\0"'.encode()),
        ("application/yaml", f"{_YAML}x\nfixed: &x {{x: *x}}".encode()),
        ("application/yaml", f"{_YAML}x\nfixed: {{x: {'[' * 2000}{']' * 2000}}}".encode()),
        ("application/yaml", f"{_YAML}x\n{_LAUGHS}".encode()),
    ],
)
def test_what_is_no_document_is_refused(owner: APIClient, content_type: str, body: bytes) -> None:
    response = owner.post(f"{API}/experiments/", body, content_type=content_type)
    assert response.status_code == 400, response.data
    assert response.data.get("errors") or response.data["detail"]
    assert not Experiment.objects.exists()


def test_a_document_that_is_too_large_is_not_read(owner: APIClient) -> None:
    response = owner.post(f"{API}/experiments/", simulated(question="x" * 300_000), format="json")
    assert response.status_code == 413
    assert "262144 bytes" in response.data["detail"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_other_content_types_are_refused(owner: APIClient, content_type: str) -> None:
    response = owner.post(f"{API}/experiments/", b"name: sleep", content_type=content_type)
    assert response.status_code == 415


def test_a_plan_is_approved_once(owner: APIClient) -> None:
    owner.post(f"{API}/experiments/", simulated(), format="json")
    response = owner.post(f"{API}/experiments/sleep/approve/")
    assert (response.status_code, response.data) == (200, {"queued_runs": 2})
    assert owner.get(f"{API}/experiments/sleep/").data["approved_by"] == "owner"
    again = owner.post(f"{API}/experiments/sleep/approve/")
    assert again.status_code == 409
    assert "approved already" in again.data["detail"]


def test_an_experiment_is_cancelled(owner: APIClient) -> None:
    owner.post(f"{API}/experiments/", simulated(), format="json")
    owner.post(f"{API}/experiments/sleep/approve/")
    assert owner.post(f"{API}/experiments/sleep/cancel/").status_code == 202
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.CANCELLED}


@pytest.mark.parametrize(
    ("query", "content_type", "start"),
    [
        ("", "application/json; charset=utf-8", b"{"),
        ("?format=json", "application/json; charset=utf-8", b"{"),
        ("?format=csv", "text/csv; charset=utf-8", b"name,type"),
        ("?format=md", "text/markdown; charset=utf-8", b"| name | type"),
    ],
)
def test_a_summary_comes_as_it_is_asked_for(
    owner: APIClient, query: str, content_type: str, start: bytes
) -> None:
    owner.post(f"{API}/experiments/", simulated(), format="json")
    response = owner.get(f"{API}/experiments/sleep/summary/{query}", HTTP_ACCEPT=content_type)
    assert response.status_code == 200
    assert response["Content-Type"] == content_type
    assert response.content.startswith(start)


def test_a_summary_in_an_unknown_form_is_refused(owner: APIClient) -> None:
    owner.post(f"{API}/experiments/", simulated(), format="json")
    assert owner.get(f"{API}/experiments/sleep/summary/?format=xls").status_code == 400


def test_a_name_with_dots_is_found(owner: APIClient) -> None:
    owner.post(f"{API}/experiments/", simulated("llama-3.2.json"), format="json")
    assert owner.get(f"{API}/experiments/llama-3.2.json/").data["name"] == "llama-3.2.json"
    assert owner.get(f"{API}/experiments/nothing/").status_code == 404
