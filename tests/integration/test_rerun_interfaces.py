"""The terminal, the API and the admin, where people have runs run again: the same roles, the same refusals."""

import json

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError

from experiments.models import Experiment, Run
from experiments.specs import CommandSpec, spec_to_json
from experiments.states import FinishReason, RunKind, RunState
from tests.conftest import People
from tests.factories import make_cell, make_experiment, make_run, make_user
from tests.integration import admin_client, api_client
from tests.integration.admin_client import url
from tests.integration.api_client import API
from tests.integration.commands import command

pytestmark = pytest.mark.django_db

COMMAND = spec_to_json(CommandSpec(argv=("true",)))


@pytest.fixture
def mine(people: People) -> Experiment:
    """With a run that failed, and one that builds on it."""
    experiment = make_experiment(name="mine", created_by=people.owner, approved=True)
    cell = make_cell(experiment=experiment)
    failed = make_run(cell=cell, name="first", state=RunState.FAILED)
    cancelled = {"state": RunState.CANCELLED, "reason": FinishReason.DEPENDENCY_FAILED}
    make_run(cell=cell, name="second", depends_on=failed, **cancelled)
    return experiment


def attempts() -> list[int]:
    return sorted(Run.objects.values_list("attempt", flat=True))


def rerun(*words: str) -> str:
    return command("rerun", *words)


def test_the_command_tells_what_and_why_before_it_does_it(mine: Experiment) -> None:
    told = (
        "first (attempt 2): EXIT_CODE: It ended with exit code 1.\n"
        "second (attempt 2): what it builds on did not succeed\n"
    )
    assert rerun("mine", "--failed", "--dry-run") == f"{told}2 runs would be queued again.\n"
    assert attempts() == [1, 1]
    assert rerun("mine", "--failed") == f"{told}2 runs queued again.\n"
    assert attempts() == [2, 2]
    assert rerun("mine", "--failed") == "There is nothing to run again.\n"


def test_the_command_as_json(mine: Experiment) -> None:
    shown = json.loads(rerun("mine", "--failed", "--dry-run", "--json"))
    assert shown["dry_run"] is True
    assert [run["name"] for run in shown["runs"]] == ["first", "second"]


def test_the_command_wants_to_know_which(mine: Experiment) -> None:
    with pytest.raises(CommandError, match="one of the arguments --failed --missing --changed is required"):
        rerun("mine")


def test_the_command_refuses_a_draft() -> None:
    make_run(cell=make_cell(experiment=make_experiment(name="draft")), state=RunState.FAILED)
    with pytest.raises(CommandError, match="is a draft.*approve it first"):
        rerun("draft", "--failed")


def test_the_api_tells_before_it_does_it(people: People, mine: Experiment) -> None:
    owner, address = api_client.client_of(people.owner), f"{API}/experiments/mine/rerun/"
    dry = owner.post(address, {"which": "failed", "dry_run": True}, format="json")
    assert [(run["name"], run["state"], run["next_id"]) for run in dry.data["runs"]] == [
        ("first", "FAILED", None),
        ("second", "CANCELLED", None),
    ]
    assert attempts() == [1, 1]
    done = owner.post(address, {"which": "failed"}, format="json")
    assert done.status_code == 200
    first = Run.objects.get(name="first")
    assert (done.data["runs"][0]["next_id"], first.attempt) == (first.pk, 2)


@pytest.mark.parametrize("body", [{}, {"which": "all"}, {"which": "failed", "dry_run": "perhaps"}])
def test_the_api_refuses_what_it_does_not_know(people: People, mine: Experiment, body: object) -> None:
    answer = api_client.client_of(people.owner).post(f"{API}/experiments/mine/rerun/", body, format="json")
    assert (answer.status_code, attempts()) == (400, [1, 1])


def test_a_draft_is_a_conflict_for_the_api(people: People) -> None:
    draft = make_experiment(name="draft", created_by=people.owner)
    make_run(cell=make_cell(experiment=draft), state=RunState.FAILED)
    owner = api_client.client_of(people.owner)
    answer = owner.post(f"{API}/experiments/draft/rerun/", {"which": "failed"}, format="json")
    assert (answer.status_code, "approve it first" in answer.data["detail"]) == (409, True)


def test_over_the_api_only_the_owner_and_who_controls_any_run(people: People, mine: Experiment) -> None:
    address, body = f"{API}/experiments/mine/rerun/", {"which": "failed"}
    for person in (people.colleague, people.outsider):
        for asked in (body, {**body, "dry_run": True}):
            assert api_client.client_of(person).post(address, asked, format="json").status_code == 403
    assert attempts() == [1, 1]
    lead = make_user(permissions=["experiments.view_experiment", "experiments.control_any_run"])
    assert api_client.client_of(lead).post(address, body, format="json").status_code == 200
    assert attempts() == [2, 2]


def test_the_api_lists_last_attempts_and_finds_earlier_ones(people: People, mine: Experiment) -> None:
    earlier = Run.objects.get(name="first")
    rerun("mine", "--failed")
    client = api_client.client_of(people.colleague)
    listed = client.get(f"{API}/runs/").data["results"]
    assert [(run["name"], run["attempt"]) for run in listed] == [("second", 2), ("first", 2)]
    found = client.get(f"{API}/runs/{earlier.pk}/").data
    assert (found["attempt"], found["superseded_by"]) == (1, Run.objects.get(name="first").pk)
    superseded = client.get(f"{API}/runs/?superseded=true").data["results"]
    assert {run["attempt"] for run in superseded} == {1}


def test_the_admin_shows_what_would_be_run_again_before_it_is(people: People, mine: Experiment) -> None:
    owner, address = admin_client.client_of(people.owner), url("experiments_run_again", mine.pk)
    page = owner.get(url("experiments_experiment_change", mine.pk)).content.decode()
    assert f'href="{address}"' in page
    shown = owner.get(address).content.decode()
    assert "what it builds on did not succeed" in shown and "Run them again" in shown
    assert attempts() == [1, 1]
    done = owner.post(address, {"which": "failed"}, follow=True).content.decode()
    assert "2 runs are queued again." in done
    assert attempts() == [2, 2]
    assert (
        "There is nothing to run again."
        in owner.post(address, {"which": "failed"}, follow=True).content.decode()
    )


def test_the_admin_says_so_where_nothing_is_missing_and_where_it_is_not_known(
    people: People, mine: Experiment
) -> None:
    owner, address = admin_client.client_of(people.owner), url("experiments_run_again", mine.pk)
    assert (
        "The results of everything that succeeded are there."
        in owner.get(f"{address}?which=missing").content.decode()
    )
    Experiment.objects.update(document={"name": "mine"})
    refused = owner.get(f"{address}?which=changed").content.decode()
    assert 'role="alert"' in refused and "It is not known." in refused
    assert "Run them again" not in refused


def test_the_admin_runs_nothing_again_that_was_not_chosen(people: People, mine: Experiment) -> None:
    owner, address = admin_client.client_of(people.owner), url("experiments_run_again", mine.pk)
    before = attempts()
    for form in ({}, {"which": "everything"}):
        told = owner.post(address, form, follow=True).content.decode()
        assert "Nothing is queued: choose which runs are run again." in told
    assert attempts() == before


def test_in_the_admin_only_the_owner_and_who_controls_any_run(people: People, mine: Experiment) -> None:
    address = url("experiments_run_again", mine.pk)
    colleague = admin_client.client_of(people.colleague)
    assert address not in colleague.get(url("experiments_experiment_change", mine.pk)).content.decode()
    assert [colleague.get(address).status_code, colleague.post(address, {"which": "failed"}).status_code] == [
        403,
        403,
    ]
    controls_unseen = admin_client.client_of(make_user(permissions=["experiments.control_any_run"]))
    assert controls_unseen.post(address, {"which": "failed"}).status_code == 403
    assert attempts() == [1, 1]


def test_a_draft_is_refused_on_the_page_as_everywhere(people: People) -> None:
    draft = make_experiment(created_by=people.owner)
    make_run(cell=make_cell(experiment=draft), state=RunState.FAILED)
    owner, address = admin_client.client_of(people.owner), url("experiments_run_again", draft.pk)
    for answer in (owner.get(address), owner.post(address, {"which": "failed"})):
        assert "approve it first" in answer.content.decode()
    assert attempts() == [1]


def test_a_command_is_run_again_only_by_who_may_run_commands(people: People, mine: Experiment) -> None:
    Run.objects.filter(name="first").update(kind=RunKind.COMMAND, spec=COMMAND)
    address, body = f"{API}/experiments/mine/rerun/", {"which": "failed"}
    refused = api_client.client_of(people.owner).post(address, body, format="json")
    assert (refused.status_code, "run_commands" in refused.data["detail"]) == (403, True)
    page = url("experiments_run_again", mine.pk)
    assert admin_client.client_of(people.owner).post(page, body).status_code == 403
    assert attempts() == [1, 1]
    people.owner.user_permissions.add(Permission.objects.get(codename="run_commands"))
    assert admin_client.client_of(people.owner).post(page, body).status_code == 302
    assert attempts() == [2, 2]


def test_a_draft_has_no_button(people: People) -> None:
    draft = make_experiment(created_by=people.owner)
    make_run(cell=make_cell(experiment=draft), state=RunState.FAILED)
    page = admin_client.client_of(people.owner).get(url("experiments_experiment_change", draft.pk))
    assert url("experiments_run_again", draft.pk) not in page.content.decode()


def test_a_runs_page_leads_to_its_other_attempts_and_the_list_has_the_last(
    people: People, mine: Experiment
) -> None:
    earlier = Run.objects.get(name="first")
    rerun("mine", "--failed")
    last = Run.objects.get(name="first")
    client = admin_client.client_of(people.colleague)
    for run, other in ((earlier, last), (last, earlier)):
        page = client.get(url("experiments_run_change", run.pk)).content.decode()
        assert f"Attempt {run.attempt} of 2" in page
        assert url("experiments_run_change", other.pk) in page
    listed = client.get(url("experiments_run_changelist")).content.decode()
    assert url("experiments_run_change", last.pk) in listed
    assert url("experiments_run_change", earlier.pk) not in listed
