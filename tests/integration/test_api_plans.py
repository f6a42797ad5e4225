"""Plans over HTTP: answers, proposals, the log, the export."""

import pytest
from rest_framework.test import APIClient

from experiments import documents
from experiments.models import Experiment, PlanEntry, Proposal, Run
from experiments.states import RunState
from tests import factories
from tests.conftest import People
from tests.integration.api_client import API, client_of, simulated

QUESTION = {"key": "fixed.epochs", "text": "How many epochs?", "suggestion": None}


@pytest.fixture
def owner(people: People) -> APIClient:
    return client_of(people.owner)


@pytest.fixture
def draft(owner: APIClient) -> Experiment:
    assert owner.post(f"{API}/experiments/", simulated(), format="json").status_code == 201
    return Experiment.objects.get()


def test_a_plan_with_questions_is_not_approved_before_they_are_answered(
    owner: APIClient, draft: Experiment
) -> None:
    Experiment.objects.update(questions=[QUESTION])
    response = owner.post(f"{API}/experiments/sleep/approve/", {"answers": {}}, format="json")
    assert response.status_code == 409
    assert response.data["questions"] == [QUESTION]
    assert "fixed.epochs" in response.data["detail"]
    assert not Run.objects.queued().exists()


def test_answers_go_to_the_domain(
    owner: APIClient, draft: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    monkeypatch.setattr("experiments.control.approve", lambda **known: given.append(known["answers"]) or 2)
    body = {"answers": {"fixed.epochs": 2, "validation": {"every_n_steps": 50}}}
    assert owner.post(f"{API}/experiments/sleep/approve/", body, format="json").status_code == 200
    assert given == [body["answers"]]


def test_an_answer_that_nobody_asked_for_is_refused(owner: APIClient, draft: Experiment) -> None:
    body = {"answers": {"fixed.epoch": 2}}
    response = owner.post(f"{API}/experiments/sleep/approve/", body, format="json")
    assert response.status_code == 400
    assert response.data["errors"][0]["path"] == "fixed.epoch"
    assert not Run.objects.queued().exists()


@pytest.mark.parametrize("body", [{"answers": [2]}, {"answers": "2"}, [1]])
def test_answers_that_are_no_mapping_are_refused(owner: APIClient, draft: Experiment, body: object) -> None:
    response = owner.post(f"{API}/experiments/sleep/approve/", body, format="json")
    assert response.status_code == 400
    assert Run.objects.get(name__endswith="0").state == RunState.PLANNED


def test_proposals_are_accepted_by_their_id(owner: APIClient, draft: Experiment) -> None:
    proposal = factories.make_proposal(experiment=draft)
    (listed,) = owner.get(f"{API}/experiments/sleep/proposals/").data["results"]
    assert (listed["id"], listed["key"], listed["changes"]) == (proposal.pk, "batch_size/m", {"priority": 7})
    response = owner.post(f"{API}/experiments/sleep/proposals/{proposal.pk}/accept/")
    assert response.status_code == 200, response.data
    assert (response.data["name"], response.data["priority"]) == ("sleep", 7)
    again = owner.post(f"{API}/experiments/sleep/proposals/{proposal.pk}/accept/")
    assert again.status_code in (404, 409)


def test_a_declined_proposal_stays_declined(owner: APIClient, draft: Experiment) -> None:
    proposal = factories.make_proposal(experiment=draft)
    address = f"{API}/experiments/sleep/proposals/{proposal.pk}"
    response = owner.post(f"{address}/decline/")
    assert (response.data["state"], response.data["decided_by"]) == ("declined", "owner")
    assert owner.post(f"{address}/accept/").status_code == 409
    assert Experiment.objects.get().priority == 0


def test_a_change_that_cannot_be_planned_is_refused_with_the_problems(
    owner: APIClient, draft: Experiment
) -> None:
    proposal = factories.make_proposal(experiment=draft, changes={"priorty": 7})
    response = owner.post(f"{API}/experiments/sleep/proposals/{proposal.pk}/accept/")
    assert response.status_code == 400
    assert response.data["errors"][0]["remedy"] == "Did you mean 'priority'?"
    assert Proposal.objects.get().state == Proposal.State.OPEN


def test_a_proposal_is_found_in_its_own_plan_only(owner: APIClient, draft: Experiment) -> None:
    other = factories.make_proposal(experiment=factories.make_experiment(name="other"))
    for address in (f"sleep/proposals/{other.pk}/", "nothing/proposals/", "nothing/log/"):
        assert owner.get(f"{API}/experiments/{address}").status_code == 404
    assert owner.post(f"{API}/experiments/sleep/proposals/{other.pk}/decline/").status_code == 404


def test_who_may_see_a_plan_may_not_decide_about_it(people: People, draft: Experiment) -> None:
    proposal = factories.make_proposal(experiment=draft)
    for verb in ("accept", "decline"):
        address = f"{API}/experiments/sleep/proposals/{proposal.pk}/{verb}/"
        assert client_of(people.colleague).post(address).status_code == 403
    proposal.refresh_from_db()
    assert proposal.state == Proposal.State.OPEN


def test_the_log_tells_what_was_decided_when_and_by_whom(owner: APIClient, draft: Experiment) -> None:
    owner.post(f"{API}/experiments/sleep/approve/")
    entries = owner.get(f"{API}/experiments/sleep/log/").data["results"]
    assert [entry["text"] for entry in entries] == [entry.text for entry in PlanEntry.objects.order_by("id")]
    assert (entries[-1]["text"], entries[-1]["by"]) == ("Approved; 2 runs are queued.", "owner")


def test_the_export_has_the_plan_its_document_and_its_log(owner: APIClient, draft: Experiment) -> None:
    exported = owner.get(f"{API}/experiments/sleep/export/").data
    plan = owner.get(f"{API}/experiments/sleep/plan/").data
    assert exported == {**plan, "document": draft.document, "log": exported["log"]}
    assert exported["log"]


def test_probes_name_the_plan_that_they_are_for(owner: APIClient, draft: Experiment) -> None:
    factories.make_experiment(name="sleep_probes", probes_of=draft)
    assert owner.get(f"{API}/experiments/sleep_probes/").data["probes_of"] == "sleep"


def test_the_schema_of_a_document_is_the_one_that_documents_are_checked_by(owner: APIClient) -> None:
    assert owner.get(f"{API}/document-schema/").json() == documents.json_schema()


@pytest.mark.parametrize("rows", [1, 20])
def test_log_and_proposals_take_as_many_queries_for_many_rows_as_for_one(
    owner: APIClient, draft: Experiment, rows: int, django_assert_max_num_queries: object
) -> None:
    for number in range(rows):
        factories.make_proposal(experiment=draft, key=f"about/{number}")
    for address in ("log", "proposals", "plan"):
        with django_assert_max_num_queries(8):  # type: ignore[operator]
            assert owner.get(f"{API}/experiments/sleep/{address}/").status_code == 200
