"""Who may do what over HTTP: the permissions are Django's, the rules are the domain's."""

import pytest
from rest_framework.test import APIClient

from experiments.models import Dataset, Experiment, Observation, Proposal
from experiments.states import RunState
from tests import factories
from tests.conftest import People
from tests.integration.api_client import API, client_of, simulated

pytestmark = pytest.mark.usefixtures("no_throttle_of_earlier_tests")

RESOURCES = [
    "datasets", "models", "experiments", "observations", "calibrations", "runs", "jobs", "devices", "nodes", "queue"
]  # fmt: skip
ACTIONS = [
    "experiments/", "experiments/plan/", "experiments/mine/approve/", "experiments/mine/cancel/", "runs/{run}/cancel/",
    "experiments/mine/pause/", "experiments/mine/unpause/", "experiments/mine/window/", "queue/pause/", "queue/unpause/",
    "experiments/mine/proposals/{proposal}/accept/", "experiments/mine/proposals/{proposal}/decline/",
    "datasets/", "models/", "observations/", "observations/complete/",
]  # fmt: skip
NO_BODY = ("cancel/", "pause/", "accept/", "decline/")
READINGS = [
    *(f"{resource}/" for resource in RESOURCES),
    "experiments/mine/", "experiments/mine/plan/", "experiments/mine/summary/", "experiments/mine/summary/?format=csv",
    "experiments/mine/export/", "experiments/mine/log/", "experiments/mine/proposals/",
    "experiments/mine/proposals/{proposal}/", "calibrations/errors/", "document-schema/",
    "runs/{run}/", "runs/{run}/log/", "runs/{run}/loss/",
]  # fmt: skip


@pytest.fixture
def run(people: People) -> int:
    mine = factories.make_experiment(name="mine", created_by=people.owner)
    factories.make_proposal(experiment=mine)
    return factories.make_run(cell=factories.make_cell(experiment=mine)).pk


def _statuses(client: APIClient, run: int) -> dict[int, list[str]]:
    """The addresses, by the status that they answered with."""
    answers: dict[int, list[str]] = {}
    ids = {"run": run, "proposal": Proposal.objects.get().pk}
    for address in READINGS:
        status = client.get(f"{API}/{address.format(**ids)}").status_code
        answers.setdefault(status, []).append(address)
    for address in ACTIONS:
        body = {} if address.endswith(NO_BODY) else simulated()
        status = client.post(f"{API}/{address.format(**ids)}", body, format="json").status_code
        answers.setdefault(status, []).append(address)
    return answers


def test_a_stranger_is_asked_who_it_is(run: int) -> None:
    assert list(_statuses(APIClient(), run)) == [401]


def test_an_outsider_sees_and_does_nothing(people: People, run: int) -> None:
    assert list(_statuses(client_of(people.outsider), run)) == [403]


def test_a_colleague_sees_everything_and_changes_nothing(people: People, run: int) -> None:
    answers = _statuses(client_of(people.colleague), run)
    assert answers == {200: READINGS, 403: ACTIONS}
    experiment = Experiment.objects.get()
    assert experiment.is_draft
    assert experiment.cells.get().runs.get().state == RunState.PLANNED
    assert experiment.proposals.get().state == Proposal.State.OPEN
    assert not Observation.objects.exists()


def test_a_permission_to_approve_is_enough_to_approve(run: int) -> None:
    lead = factories.make_user(permissions=["experiments.view_experiment", "experiments.approve_plan"])
    assert client_of(lead).post(f"{API}/experiments/mine/approve/").status_code == 200


def test_a_permission_to_plan_is_not_one_to_approve(run: int) -> None:
    planner = factories.make_user(permissions=["experiments.view_experiment", "experiments.add_experiment"])
    response = client_of(planner).post(f"{API}/experiments/mine/approve/")
    assert response.status_code == 403
    assert "experiments.approve_plan" in response.data["detail"]


def test_who_controls_any_run_may_cancel_the_owners(run: int) -> None:
    seeing = ["experiments.view_experiment", "experiments.view_run"]
    operator = client_of(factories.make_user(permissions=[*seeing, "experiments.control_any_run"]))
    assert operator.post(f"{API}/runs/{run}/cancel/").status_code == 202
    assert operator.post(f"{API}/experiments/mine/cancel/").status_code == 202


def test_a_command_needs_its_own_permission(people: People) -> None:
    body = {"name": "own", "command": {"argv": ["true"]}}
    for address in ("experiments/", "experiments/plan/"):
        response = client_of(people.owner).post(f"{API}/{address}", body, format="json")
        assert response.status_code == 403
        assert "run_commands" in response.data["detail"]
    assert not Experiment.objects.exists()


def test_a_dataset_is_changed_by_who_may_change_datasets(people: People) -> None:
    dataset = factories.make_dataset(name="letters")
    adding = factories.make_user(permissions=["experiments.view_dataset", "experiments.add_dataset"])
    response = client_of(adding).patch(f"{API}/datasets/{dataset.pk}/", {"name": "x"}, format="json")
    assert response.status_code == 403
    assert Dataset.objects.get().name == "letters"


def test_nothing_is_deleted_over_the_api(people: People, run: int) -> None:
    people.owner.is_superuser = True
    people.owner.save()
    assert client_of(people.owner).delete(f"{API}/experiments/mine/").status_code == 405


def test_another_persons_draft_is_not_replaced(people: People, run: int) -> None:
    planner = factories.make_user(permissions=["experiments.view_experiment", "experiments.add_experiment"])
    response = client_of(planner).post(f"{API}/experiments/", simulated("mine"), format="json")
    assert response.status_code in (403, 409)
    assert Experiment.objects.get().created_by == people.owner


def test_a_session_reads_and_needs_a_csrf_token_to_write(people: People, run: int) -> None:
    client = APIClient(enforce_csrf_checks=True)
    assert client.login(username="owner", password=factories.PASSWORD)
    assert client.get(f"{API}/experiments/").status_code == 200
    response = client.post(f"{API}/experiments/mine/approve/")
    assert response.status_code == 403
    assert "CSRF" in response.data["detail"]
    assert Experiment.objects.get().is_draft


def test_a_password_gets_a_token_that_works(people: People) -> None:
    client = APIClient()
    body = {"username": "owner", "password": factories.PASSWORD}
    token = client.post(f"{API}/token/", body, format="json").data["token"]
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get(f"{API}/experiments/").status_code == 200


def test_the_token_of_a_person_who_left_opens_nothing(people: People) -> None:
    client = client_of(people.owner)
    people.owner.is_active = False
    people.owner.save()
    assert client.get(f"{API}/experiments/").status_code == 401


@pytest.mark.parametrize("forwarded_for", [None, "10.0.0.{}"])
def test_passwords_cannot_be_guessed_fast(people: People, forwarded_for: str | None) -> None:
    client = APIClient()
    statuses = []
    for n in range(11):
        headers = {"X-Forwarded-For": forwarded_for.format(n)} if forwarded_for else {}
        body = {"username": "owner", "password": f"guess {n}"}
        statuses.append(client.post(f"{API}/token/", body, format="json", headers=headers).status_code)
    assert statuses == [400] * 10 + [429]


def test_one_account_cannot_be_guessed_at_from_many_addresses(people: People) -> None:
    client = APIClient()
    body = {"username": "owner", "password": "guess"}
    statuses = [
        client.post(f"{API}/token/", body, format="json", REMOTE_ADDR=f"10.0.0.{n}").status_code
        for n in range(11)
    ]
    assert statuses == [400] * 10 + [429]


@pytest.mark.parametrize("body", [[], "x", {"username": {}}, {"username": "\x00", "password": "x"}])
def test_a_strange_request_for_a_token_is_refused(db: None, body: object) -> None:
    assert APIClient().post(f"{API}/token/", body, format="json").status_code == 400


def test_a_huge_request_for_a_token_is_not_read(db: None) -> None:
    body = {"username": "x" * 5000, "password": "x"}
    assert APIClient().post(f"{API}/token/", body, format="json").status_code == 413
