"""Who may steer what, in the admin and over HTTP: one's own, or anybody's and the whole queue with a permission."""

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.http import HttpResponse

from experiments.models import Experiment
from experiments.states import RunState
from scheduler import pausing
from tests.conftest import People
from tests.factories import make_cell, make_experiment, make_run, make_user
from tests.integration import admin_client, api_client
from tests.integration.admin_client import url
from tests.integration.api_client import API, simulated
from tests.integration.commands import command

pytestmark = pytest.mark.usefixtures("no_throttle_of_earlier_tests")

SEEING = ["experiments.view_experiment", "experiments.view_run"]


@pytest.fixture
def mine(people: People) -> Experiment:
    mine = make_experiment(name="mine", created_by=people.owner, approved=True)
    make_run(cell=make_cell(experiment=mine), state=RunState.QUEUED)
    return mine


@pytest.fixture
def lead(db: None) -> User:
    return make_user(username="lead", permissions=[*SEEING, "experiments.control_any_run"])


def api(user: User, address: str, **body: object) -> int:
    return api_client.client_of(user).post(f"{API}/{address}/", body, format="json").status_code


def admin(user: User, experiment: Experiment, action: str, **form: object) -> HttpResponse:
    address = url(f"experiments_experiment_{action}", experiment.pk)
    answer: HttpResponse = admin_client.client_of(user).post(address, form)
    return answer


def page(user: User, experiment: Experiment) -> str:
    address = url("experiments_experiment_change", experiment.pk)
    return admin_client.client_of(user).get(address).content.decode()


def pause_of(experiment: Experiment) -> str:
    experiment.refresh_from_db()
    return experiment.paused_by


def test_an_owner_pauses_over_http_and_a_colleague_does_not(people: People, mine: Experiment) -> None:
    assert api(people.colleague, "experiments/mine/pause") == 403
    assert pause_of(mine) == ""
    answer = api_client.client_of(people.owner).post(f"{API}/experiments/mine/pause/")
    assert (answer.status_code, answer.data["paused_by"]) == (200, "owner")
    assert api(people.colleague, "experiments/mine/unpause") == 403
    assert api(people.owner, "experiments/mine/unpause") == 200
    assert pause_of(mine) == ""


def test_who_controls_any_run_pauses_the_owners(lead: User, mine: Experiment) -> None:
    assert api(lead, "experiments/mine/pause") == 200
    assert pause_of(mine) == "lead"
    admin(lead, mine, "unpause")
    assert pause_of(mine) == ""
    admin(lead, mine, "pause")
    assert pause_of(mine) == "lead"


def test_a_draft_is_refused_with_a_conflict(people: People) -> None:
    draft = make_experiment(name="draft", created_by=people.owner)
    assert api(people.owner, "experiments/draft/pause") == 409
    told = [str(message) for message in get_messages(admin(people.owner, draft, "pause").wsgi_request)]
    assert "is a draft" in told[0]


def test_an_owner_pauses_on_the_page_and_a_colleague_is_not_offered_it(
    people: People, mine: Experiment
) -> None:
    assert "Pause this experiment?" not in page(people.colleague, mine)
    assert admin(people.colleague, mine, "pause").status_code == 403
    assert "Pause this experiment?" in page(people.owner, mine)
    admin(people.owner, mine, "pause")
    assert "It is paused by owner since" in page(people.colleague, mine)
    assert "Unpause" not in page(people.colleague, mine)
    assert admin(people.colleague, mine, "unpause").status_code == 403
    assert "Unpause" in page(people.owner, mine)
    admin(people.owner, mine, "unpause")
    assert "is paused" not in page(people.owner, mine)


def test_steering_takes_a_post(people: People, mine: Experiment) -> None:
    for action in ("pause", "unpause"):
        address = url(f"experiments_experiment_{action}", mine.pk)
        assert admin_client.client_of(people.owner).get(address).status_code == 405


def test_the_queue_is_paused_by_who_controls_any_run(people: People, lead: User, mine: Experiment) -> None:
    assert api(people.owner, "queue/pause") == 403
    assert pausing.queue_pause() == ""
    answer = api_client.client_of(lead).post(f"{API}/queue/pause/")
    assert (answer.status_code, answer.data["paused_by"], answer.data["queued_runs"]) == (200, "lead", 1)
    seen = api_client.client_of(people.colleague).get(f"{API}/queue/").data
    assert (seen["paused_by"], seen["paused_at"] is None) == ("lead", False)
    assert api(people.owner, "queue/unpause") == 403
    assert api(lead, "queue/unpause") == 200
    assert pausing.queue_pause() == ""


def test_the_dashboard_offers_it_to_them_alone_and_tells_everybody(
    people: People, lead: User, mine: Experiment
) -> None:
    owner, leading = admin_client.client_of(people.owner), admin_client.client_of(lead)
    assert "Pause the queue" not in owner.get(url("index")).content.decode()
    assert "Pause the queue" in leading.get(url("index")).content.decode()
    assert owner.post(url("experiments_run_pause")).status_code == 403
    assert pausing.queue_pause() == ""
    leading.post(url("experiments_run_pause"))
    assert "the queue is paused by lead" in owner.get(url("index")).content.decode()
    assert "the queue is paused by lead" in owner.get(url("experiments_run_changelist")).content.decode()
    assert owner.post(url("experiments_run_unpause")).status_code == 403
    leading.post(url("experiments_run_unpause"))
    assert "paused by lead" not in owner.get(url("index")).content.decode()


def test_lists_mark_what_is_paused(people: People, mine: Experiment) -> None:
    admin(people.owner, mine, "pause")
    colleague = admin_client.client_of(people.colleague)
    for name in ("index", "experiments_experiment_changelist"):
        assert "lab-is-paused" in colleague.get(url(name)).content.decode()
    assert "mine is paused by owner" in colleague.get(url("experiments_run_changelist")).content.decode()


@pytest.mark.parametrize(
    "address",
    ["experiments/mine/pause", "experiments/mine/unpause", "experiments/mine/cancel", "queue/pause"],
)
def test_a_body_where_there_is_nothing_to_say_is_refused_by_its_keys(
    lead: User, mine: Experiment, address: str
) -> None:
    client = api_client.client_of(lead)
    answer = client.post(f"{API}/{address}/", {"until": "12:00", "because": "lunch"}, format="json")
    assert answer.status_code == 400
    told = {error["path"]: error["message"] for error in answer.data["errors"]}
    assert told == {"until": "Unknown key 'until'.", "because": "Unknown key 'because'."}
    assert client.post(f"{API}/{address}/", ["now"], format="json").status_code == 400
    assert (pause_of(mine), pausing.queue_pause(), mine.cells.get().runs.get().state) == (
        "",
        "",
        RunState.QUEUED,
    )
    assert client.post(f"{API}/{address}/", {}, format="json").status_code in (200, 202)


def window_of(experiment: Experiment) -> int:
    experiment.refresh_from_db()
    return experiment.max_parallel


def test_a_window_is_set_by_the_owner_and_who_controls_any_run(
    people: People, lead: User, mine: Experiment
) -> None:
    assert api(people.colleague, "experiments/mine/window", max_parallel=7) == 403
    assert admin(people.colleague, mine, "window", max_parallel="7").status_code == 403
    assert 'aria-label="Jobs at a time"' not in page(people.colleague, mine)
    assert window_of(mine) == 2
    assert api(people.owner, "experiments/mine/window", max_parallel=7) == 200
    assert window_of(mine) == 7
    assert 'aria-label="Jobs at a time"' in page(people.owner, mine)
    admin(people.owner, mine, "window", max_parallel="3")
    assert window_of(mine) == 3
    assert api(lead, "experiments/mine/window", max_parallel=1) == 200
    assert window_of(mine) == 1
    admin(people.owner, mine, "window", max_parallel="auto")
    assert (window_of(mine), mine.max_parallel_is_auto) == (1, True)
    assert 'value="auto"' in page(people.owner, mine)
    assert api(lead, "experiments/mine/window", max_parallel="auto") == 200


@pytest.mark.parametrize("given", [0, -1, 1.5, True, None, "", "many", "1e3", [2], 2**31, "9" * 5000])
def test_a_bad_window_is_refused_with_what_to_give(people: People, mine: Experiment, given: object) -> None:
    body = {"max_parallel": given}
    answer = api_client.client_of(people.owner).post(f"{API}/experiments/mine/window/", body, format="json")
    assert answer.status_code == 400
    form = {} if given is None else {"max_parallel": str(given)}
    told = get_messages(admin(people.owner, mine, "window", **form).wsgi_request)
    refusal = str(next(iter(told)))
    assert "whole number of 1 or more" in refusal and len(refusal) < 200
    assert window_of(mine) == 2


def test_the_log_tells_who_steered_and_how(people: People, lead: User, mine: Experiment) -> None:
    api(people.owner, "experiments/mine/pause"), api(lead, "experiments/mine/pause")
    admin(lead, mine, "unpause"), admin(lead, mine, "unpause")
    admin(people.owner, mine, "window", max_parallel="7")
    api(lead, "experiments/mine/window", max_parallel="auto")
    command("window", "mine", "3"), command("window", "mine", "3"), command("pause", "mine")
    told = [
        ("Paused.", "owner"),
        ("Unpaused.", "lead"),
        ("Jobs at a time: 7; before: 2.", "owner"),
        ("Jobs at a time: automatic; before: 7.", "lead"),
        ("Jobs at a time: 3; before: automatic 7.", "the operator"),
        ("Paused.", "the operator"),
    ]
    assert list(mine.log.values_list("text", "by")) == told
    log = api_client.client_of(people.colleague).get(f"{API}/experiments/mine/log/").data["results"]
    assert [(entry["text"], entry["by"]) for entry in log] == told
    shown = page(people.colleague, mine)
    assert all(text in shown for text, _ in told) and "the operator" in shown


def test_what_a_plan_says_of_an_automatic_window_is_said_while_there_is_one(people: People) -> None:
    client, note = api_client.client_of(people.owner), "max_parallel is auto: "
    client.post(f"{API}/experiments/", simulated(max_parallel="auto"), format="json")
    client.post(f"{API}/experiments/sleep/approve/")
    experiment = Experiment.objects.get()
    for window, is_said in (("auto", True), (3, False), ("auto", True)):
        assert api(people.owner, "experiments/sleep/window", max_parallel=window) == 200
        told = client.get(f"{API}/experiments/sleep/").data
        assert any(one.startswith(note) for one in told["notes"]) is is_said
        assert any(one.startswith(note) for one in told["plan"]["warnings"]) is is_said
        assert (note in page(people.owner, experiment)) is is_said
