"""What the page of a plan shows and offers: figures with their evidence, questions, proposals, the log."""

import json

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from experiments import planning
from experiments.figures import Figure, Grade
from experiments.models import Cell, Experiment, Observation, PlanEntry, Proposal, Run
from experiments.states import RunState
from tests.conftest import People
from tests.factories import (
    NOW,
    make_cell,
    make_estimate,
    make_experiment,
    make_observation,
    make_proposal,
    make_run,
    make_user,
    planned_row,
)
from tests.integration.admin_client import client_of, url

QUESTION = {"key": "fixed.epochs", "text": "How many epochs?", "suggestion": None}


@pytest.fixture
def owner(people: People) -> Client:
    return client_of(people.owner)


def estimated(*observations: Observation, value: float | None = 922.0) -> Figure:
    return Figure(
        value=value,
        low=900.0 if value else None,
        high=950.0 if value else None,
        grade=Grade.INTERPOLATED if value else Grade.NONE,
        n=len(observations),
        observations=tuple(observation.pk for observation in observations),
        note="Fitted to runs of the same model.",
    )


def plan_with(*observations: Observation, owner: object = None, **fields: object) -> Cell:
    figure = estimated(*observations)
    totals = {
        "cells": 1,
        "runs": 1,
        "controls": 0,
        "steps": 4000,
        "seconds": figure.to_json(),
        "end_at": None,
    }
    experiment = make_experiment(created_by=owner, totals=totals, estimated_at=NOW, **fields)
    return make_cell(experiment=experiment, name="1B_rank4", planned=planned_row(seconds=figure))


def page_of(client: Client, experiment: Experiment) -> str:
    answer = client.get(url("experiments_experiment_change", experiment.pk))
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_a_figure_shows_its_value_its_bounds_its_grade_and_what_it_rests_on(owner: Client) -> None:
    page = page_of(owner, plan_with(make_observation(), make_observation()).experiment)
    for shown in (
        "15 min 22 s",
        "15 min 00 s to 15 min 50 s",
        "interpolated, n = 2",
        "no evidence",
        "00:20:00",
    ):
        assert shown in page


def test_one_click_leads_from_a_figure_to_exactly_its_observations(owner: Client) -> None:
    first, second, other = (make_observation(metric=f"metric-{number}") for number in range(3))
    cell = plan_with(first, second)
    address = url("experiments_experiment_evidence", cell.experiment_id, cell.index, "seconds")
    assert f'href="{address}"' in page_of(owner, cell.experiment)
    page = owner.get(address).content.decode()
    assert first.metric in page and second.metric in page
    assert other.metric not in page
    assert "Fitted to runs of the same model." in page
    assert "start-up" in page


def test_a_total_and_a_part_lead_to_their_observations_too(owner: Client) -> None:
    used = make_observation(metric="used")
    cell = plan_with(used)
    for address in (
        url("experiments_experiment_total", cell.experiment_id, "seconds"),
        url("experiments_experiment_evidence", cell.experiment_id, cell.index, "training_seconds"),
    ):
        assert used.metric in owner.get(address).content.decode()


def test_evidence_of_hundreds_of_observations_comes_in_pages(owner: Client) -> None:
    cell = plan_with(*(make_observation() for _ in range(250)))
    address = url("experiments_experiment_evidence", cell.experiment_id, cell.index, "seconds")
    first, last = owner.get(address).content.decode(), owner.get(f"{address}?page=3").content.decode()
    assert "250 observations" in first
    assert "Observations 201 to 250 of 250" in last


@pytest.mark.parametrize("figure", ["steps", "nothing"])
def test_a_figure_that_there_is_not_is_not_found(owner: Client, figure: str) -> None:
    cell = plan_with()
    for name, more in (("evidence", (cell.index, figure)), ("total", (figure,))):
        assert owner.get(url(f"experiments_experiment_{name}", cell.experiment_id, *more)).status_code == 404


def test_who_may_not_see_observations_gets_figures_without_links(people: People) -> None:
    cell = plan_with(make_observation())
    client = client_of(make_user(permissions=["experiments.view_experiment"]))
    address = url("experiments_experiment_evidence", cell.experiment_id, cell.index, "seconds")
    page = page_of(client, cell.experiment)
    assert "15 min 22 s" in page and address not in page
    assert client.get(address).status_code == 403


def test_what_cells_then_took_stands_beside_what_was_estimated(owner: Client) -> None:
    cell = plan_with(approved=True)
    for actual in (400.0, 500.0):
        run = make_run(cell=cell, state=RunState.SUCCEEDED)
        make_estimate(run=run, actual=actual, compared_at=NOW)
    page = page_of(owner, cell.experiment)
    assert "was 15 min 00 s (+2 %)" in page


def test_a_cell_is_not_compared_before_all_its_runs_are(owner: Client) -> None:
    cell = plan_with(approved=True)
    make_estimate(run=make_run(cell=cell, state=RunState.SUCCEEDED), actual=400.0, compared_at=NOW)
    make_estimate(run=make_run(cell=cell, state=RunState.RUNNING))
    assert "was 6 min" not in page_of(owner, cell.experiment)


def test_a_run_shows_its_estimates_what_they_rest_on_and_what_it_was(owner: Client) -> None:
    used = make_observation(metric="used")
    run = make_run(state=RunState.SUCCEEDED)
    make_estimate(run=run, observation_ids=[used.pk], actual=125.0, compared_at=NOW)
    page = owner.get(url("experiments_run_change", run.pk)).content.decode()
    assert "2 min 05 s" in page and "-20 %" in page
    address = url("experiments_run_evidence", run.pk, "seconds")
    assert address in page
    assert used.metric in owner.get(address).content.decode()
    assert owner.get(url("experiments_run_evidence", run.pk, "nothing")).status_code == 404


def test_a_plan_without_figures_is_shown(owner: Client) -> None:
    page = page_of(owner, make_cell().experiment)
    assert "not estimated" in page


@pytest.mark.parametrize("rows", [2, 30])
def test_the_page_needs_as_many_queries_for_much_as_for_little(owner: Client, rows: int) -> None:
    cell = plan_with(*(make_observation() for _ in range(rows)), approved=True)
    for number in range(rows):
        more = make_cell(experiment=cell.experiment, planned=cell.planned)
        make_estimate(run=make_run(cell=more, state=RunState.SUCCEEDED), actual=90.0, compared_at=NOW)
        make_proposal(experiment=cell.experiment, key=f"about/{number}", state=Proposal.State.DECLINED)
        planning.record(
            experiment=cell.experiment,
            kind=PlanEntry.Kind.FOUND,
            text="Found.",
            user=None,
            now=timezone.now(),
        )
    with CaptureQueriesContext(connection) as captured:
        page_of(owner, cell.experiment)
    assert len(captured) <= 20


def asking(people: People) -> tuple[Experiment, Run]:
    """A draft that a simulated document stands for, whose question was put there by hand."""
    document = {"name": "asks", "simulated": {"duration_seconds": 1}}
    experiment = make_experiment(
        name="asks", document=document, questions=[QUESTION], created_by=people.owner
    )
    return experiment, make_run(cell=make_cell(experiment=experiment))


def test_questions_stand_beside_the_button_that_answers_them(people: People, owner: Client) -> None:
    experiment, _ = asking(people)
    page = page_of(owner, experiment)
    assert "How many epochs?" in page and 'name="answer:fixed.epochs"' in page
    assert "Answer and approve" in page
    assert "Approve this plan?" not in page


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "How many epochs?"),
        ("  ", "How many epochs?"),
        ("{2", "cannot be read"),
        ("x" * 1001, "longer than"),
    ],
)
def test_approval_without_an_answer_that_can_be_read_changes_nothing(
    people: People, owner: Client, answer: str, told: str
) -> None:
    experiment, run = asking(people)
    address = url("experiments_experiment_approve", experiment.pk)
    page = owner.post(address, {"answer:fixed.epochs": answer}, follow=True).content.decode()
    assert told in page
    run.refresh_from_db()
    assert run.state == RunState.PLANNED


def test_answers_are_read_as_yaml_and_handed_on(
    people: People, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    monkeypatch.setattr("experiments.control.approve", lambda **known: given.append(known["answers"]) or 3)
    experiment, _ = asking(people)
    form = {"answer:fixed.epochs": "2", "answer:nothing": "5"}
    page = owner.post(url("experiments_experiment_approve", experiment.pk), form, follow=True)
    assert given == [{"fixed.epochs": 2}]
    assert "3 runs are queued" in page.content.decode()


def test_who_may_not_approve_is_not_asked(people: People) -> None:
    experiment, run = asking(people)
    colleague = client_of(people.colleague)
    assert "Answer and approve" not in page_of(colleague, experiment)
    form = {"answer:fixed.epochs": "2"}
    assert colleague.post(url("experiments_experiment_approve", experiment.pk), form).status_code == 403
    run.refresh_from_db()
    assert run.state == RunState.PLANNED


def proposing(people: People, **fields: object) -> Proposal:
    document = {"name": "proposes", "simulated": {"duration_seconds": 1}, "factors": {"part": [1, 2]}}
    plan = planning.plan(data=document, user=people.owner, now=NOW)
    experiment = planning.store(plan=plan, user=people.owner, now=NOW)
    return make_proposal(experiment=experiment, **fields)


def test_an_accepted_proposal_changes_the_draft_and_leads_to_it(people: People, owner: Client) -> None:
    proposal = proposing(people)
    experiment = proposal.experiment
    answer = owner.post(url("experiments_experiment_accept", experiment.pk, proposal.pk), follow=True)
    assert answer.redirect_chain[-1][0] == url("experiments_experiment_change", experiment.pk)
    experiment.refresh_from_db()
    assert (experiment.priority, experiment.document["priority"]) == (7, 7)
    assert "Accepted: About batch_size/m." in answer.content.decode()


def test_a_declined_proposal_changes_nothing_but_its_state(people: People, owner: Client) -> None:
    proposal = proposing(people)
    owner.post(url("experiments_experiment_decline", proposal.experiment_id, proposal.pk))
    proposal.refresh_from_db()
    assert (proposal.state, proposal.decided_by) == (Proposal.State.DECLINED, "owner")
    assert Experiment.objects.get().priority == 0


@pytest.mark.parametrize("verb", ["accept", "decline"])
def test_a_proposal_is_decided_once_and_by_its_owner_only(people: People, owner: Client, verb: str) -> None:
    proposal = proposing(people)
    address = url(f"experiments_experiment_{verb}", proposal.experiment_id, proposal.pk)
    colleague = client_of(people.colleague)
    assert address not in page_of(colleague, proposal.experiment)
    assert colleague.post(address).status_code == 403
    assert owner.get(address).status_code == 405
    owner.post(url("experiments_experiment_decline", proposal.experiment_id, proposal.pk))
    assert "was decided already" in owner.post(address, follow=True).content.decode()
    assert Experiment.objects.get().priority == 0


@pytest.mark.parametrize("verb", ["accept", "decline"])
def test_a_proposal_that_is_gone_or_of_another_plan_is_said_to_be(
    people: People, owner: Client, verb: str
) -> None:
    proposal, other = proposing(people), make_experiment(created_by=people.owner)
    page = owner.post(
        url(f"experiments_experiment_{verb}", other.pk, proposal.pk), follow=True
    ).content.decode()
    assert "no longer made" in page
    proposal.refresh_from_db()
    assert proposal.state == Proposal.State.OPEN


def test_an_accepted_change_that_cannot_be_planned_says_why_and_stays_open(
    people: People, owner: Client
) -> None:
    proposal = proposing(people, changes={"priorty": 7})
    address = url("experiments_experiment_accept", proposal.experiment_id, proposal.pk)
    assert "Did you mean" in owner.post(address, follow=True).content.decode()
    proposal.refresh_from_db()
    assert proposal.state == Proposal.State.OPEN


def test_a_proposal_leads_to_its_observations(people: People, owner: Client) -> None:
    used = make_observation(metric="used")
    proposal = proposing(people, observation_ids=[used.pk])
    address = url("experiments_experiment_proposal", proposal.experiment_id, proposal.pk)
    assert address in page_of(owner, proposal.experiment)
    assert used.metric in owner.get(address).content.decode()


def test_probes_and_what_they_are_for_lead_to_each_other(owner: Client) -> None:
    plan = make_experiment(name="plan")
    probes = make_experiment(name="plan_probes", probes_of=plan)
    assert url("experiments_experiment_change", probes.pk) in page_of(owner, plan)
    assert url("experiments_experiment_change", plan.pk) in page_of(owner, probes)


def test_the_newest_of_the_log_is_shown_and_all_of_it_exported(people: People, owner: Client) -> None:
    experiment = make_experiment()
    kind = PlanEntry.Kind.DECIDED
    for number in range(101):
        text = f"entry {number}."
        planning.record(experiment=experiment, kind=kind, text=text, user=people.owner, now=NOW)
    page = page_of(owner, experiment)
    assert "entry 100." in page and "entry 0." not in page
    answer = owner.get(url("experiments_experiment_plan_json", experiment.pk))
    exported = json.loads(answer.content)
    assert "attachment" in answer["Content-Disposition"]
    assert exported["document"] == experiment.document
    assert [entry["text"] for entry in exported["log"]] == [f"entry {number}." for number in range(101)]
    assert exported["log"][0]["by"] == "owner"


def test_text_of_a_plan_is_escaped(owner: Client) -> None:
    bad = "<script>alert(1)</script>"
    experiment = make_experiment(notes=[bad], questions=[{**QUESTION, "text": bad, "suggestion": bad}])
    make_proposal(experiment=experiment, title=bad, reason=bad, changes={bad: bad})
    planning.record(experiment=experiment, kind=PlanEntry.Kind.FOUND, text=bad, user=None, now=NOW)
    figure = Figure(value=1.0, grade=Grade.TOLD, n=1, observations=(1,), note=bad)
    cell = make_cell(experiment=experiment, name="c", levels={bad: bad}, planned=planned_row(seconds=figure))
    assert "<script>alert" not in page_of(owner, experiment)
    address = url("experiments_experiment_evidence", experiment.pk, cell.index, "seconds")
    assert "<script>alert" not in owner.get(address).content.decode()


def test_a_page_of_a_long_plan_reads_only_the_cells_that_it_shows(owner: Client) -> None:
    experiment = make_experiment(approved=True)
    for number in range(102):
        make_run(cell=make_cell(experiment=experiment, index=number, name=f"cell_{number:03d}"))
    read: list[int] = []

    def note(instance: Run, **_: object) -> None:
        read.append(instance.pk)

    post_init.connect(note, sender=Run)
    try:
        last = owner.get(f"{url('experiments_experiment_change', experiment.pk)}?page=2").content.decode()
    finally:
        post_init.disconnect(note, sender=Run)
    assert "102 cells" in last
    assert "cell_101" in last and "cell_099" not in last
    assert len(set(read)) == 2
