"""What people do to experiments and runs, with the permissions that admin and API share.

`user` is None at the machine's own shell, whose operator may do everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction

from experiments import catalogue, documents, lifecycle, planning, questions
from experiments.access import named, require_control
from experiments.lifecycle import NotADraft
from experiments.models import Dataset, Experiment, PlanEntry, Proposal, Run
from experiments.models.runs import RunQuerySet
from experiments.planning import Plan


class NotFinished(Exception):
    """The experiment still has runs that have not ended."""


class Unanswered(Exception):
    """The plan has questions that its approval has to answer."""

    def __init__(self, experiment: Experiment, questions: Sequence[Mapping[str, Any]]) -> None:
        asked = " ".join(f"{question['text']} (answer {question['key']}=...)" for question in questions)
        super().__init__(f"Experiment {experiment.name!r} leaves open what matters. {asked}")
        self.questions = questions


class AlreadyDecided(Exception):
    """Somebody accepted or declined the proposal before."""


@dataclass(frozen=True, kw_only=True)
class Approved:
    experiment: Experiment
    queued: int  # runs
    answers: Mapping[str, Any]  # that were taken for what the document does not say


def approve(
    *,
    experiment: Experiment,
    user: AbstractUser | None,
    now: datetime,
    answers: Mapping[str, Any] | None = None,
) -> int:
    """Make the datasets that are missing and queue all runs; returns how many.

    `answers` are to the plan's questions, by their keys. Raises Unanswered, NotADraft, PermissionDenied, and
    InvalidDocument for answers that do not fit.
    """
    _require_approving(user)
    answered = None
    if experiment.is_draft:
        answered = _answered(experiment, answers or {}, user, now)
        for dataset in Dataset.objects.filter(cells__experiment=experiment).distinct():
            catalogue.make_missing(dataset)
    with transaction.atomic():
        if answered:
            because, before = _said(answers or {}), experiment.document
            experiment = planning.store(plan=answered, user=user, now=now, because=because, made_from=before)
        return _approved(experiment, user, now)


def approve_at_once(*, plan: Plan, user: AbstractUser | None, now: datetime) -> Approved:
    """Keep a plan and queue all its runs, both or neither, with the answers that its questions suggest.

    Where one suggests none the plan is kept as a draft, and Unanswered is raised. Raises NameTaken, PermissionDenied,
    and InvalidDocument, too.
    """
    _require_approving(user)
    left = [question.to_json() for question in plan.questions if question.suggestion is None]
    if left:
        raise Unanswered(planning.store(plan=plan, user=user, now=now), left)
    planning.require_storable(plan=plan, user=user)
    answers = {question.key: question.suggestion for question in plan.questions}
    because = f"Planned. {_said(answers)}" if answers else ""
    if answers:
        plan = planning.plan(data=questions.answered(plan.source, answers), user=user, now=now)
    for dataset in plan.found.datasets.values():
        catalogue.make_missing(dataset)
    with transaction.atomic():
        experiment = planning.store(plan=plan, user=user, now=now, because=because)
        queued = _approved(experiment, user, now)
    return Approved(experiment=experiment, queued=queued, answers=answers)


def accept(*, proposal: Proposal, user: AbstractUser | None, now: datetime) -> Experiment:
    """Take up a proposal; returns the draft that it changed, or the draft of the probes that it made.

    Raises AlreadyDecided, NotADraft, PermissionDenied, InvalidDocument, planning.Outdated.
    """
    experiment = _decidable(proposal, user)
    data = documents.changed(experiment.document, proposal.changes)
    plan = planning.plan(data=data, user=None, now=now)
    with transaction.atomic():
        _decide(proposal, Proposal.State.ACCEPTED, user, now)
        if proposal.kind == Proposal.Kind.PROBE:
            return planning.plan_probes(proposal=proposal, plan=plan, user=user, now=now)
        because = f"Accepted: {proposal.title}."
        return planning.store(plan=plan, user=user, now=now, because=because, made_from=experiment.document)


@transaction.atomic
def decline(*, proposal: Proposal, user: AbstractUser | None, now: datetime) -> None:
    """Raises AlreadyDecided, NotADraft, PermissionDenied."""
    _decidable(proposal, user)
    _decide(proposal, Proposal.State.DECLINED, user, now)


def cancel_experiment(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> int:
    """Cancel every run of it that has not ended, and return how many those were; running ones end within their grace."""
    require_control(experiment, user)
    return _cancel(Run.objects.filter(cell__experiment=experiment), user, now)


def cancel_run(*, run: Run, user: AbstractUser | None, now: datetime) -> int:
    """1, or 0 where it had ended before."""
    require_control(run.cell.experiment, user)
    return _cancel(Run.every.filter(pk=run.pk), user, now)


@transaction.atomic
def forget(*, experiment: Experiment) -> None:
    """Delete an experiment and its runs; what was observed stays. Raises NotFinished."""
    runs = Run.objects.filter(cell__experiment=experiment)
    if not experiment.is_draft and runs.unfinished().exists():
        raise NotFinished(
            f"Experiment {experiment.name!r} still has runs that have not ended; cancel it first."
        )
    experiment.delete()


def _cancel(runs: RunQuerySet, user: AbstractUser | None, now: datetime) -> int:
    unfinished = list(runs.unfinished())
    lifecycle.request_cancel(runs=unfinished, by=named(user), now=now)
    return len(unfinished)


def _require_approving(user: AbstractUser | None) -> None:
    if user is not None and not user.has_perm("experiments.approve_plan"):
        raise PermissionDenied("Approving a plan needs the permission experiments.approve_plan.")


def _approved(experiment: Experiment, user: AbstractUser | None, now: datetime) -> int:
    queued = lifecycle.approve(experiment=experiment, user=user, now=now)
    _decided(experiment, f"Approved; {queued} runs are queued.", user, now)
    return queued


def _answered(
    experiment: Experiment, answers: Mapping[str, Any], user: AbstractUser | None, now: datetime
) -> Plan | None:
    """The plan with the answers; None where nothing was answered."""
    left = [question for question in experiment.questions if question["key"] not in answers]
    if left:
        raise Unanswered(experiment, left)
    if not answers:
        return None
    require_control(experiment, user)
    return planning.plan(data=questions.answered(experiment.document, answers), user=user, now=now)


def _said(answers: Mapping[str, Any]) -> str:
    return f"Answered: {', '.join(f'{key} = {value}' for key, value in answers.items())}."


def _decidable(proposal: Proposal, user: AbstractUser | None) -> Experiment:
    experiment = proposal.experiment
    require_control(experiment, user)
    if not experiment.is_draft:
        raise NotADraft(f"Experiment {experiment.name!r} is approved already; its plan does not change.")
    return experiment


def _decide(proposal: Proposal, state: Proposal.State, user: AbstractUser | None, now: datetime) -> None:
    decided = Proposal.objects.filter(pk=proposal.pk, state=Proposal.State.OPEN).update(
        state=state, decided_by=named(user), decided_at=now
    )
    if not decided:
        raise AlreadyDecided(f"{proposal.title!r} was decided already.")
    _decided(proposal.experiment, f"{state.label}: {proposal.title}.", user, now)


def _decided(experiment: Experiment, text: str, user: AbstractUser | None, now: datetime) -> None:
    planning.record(experiment=experiment, kind=PlanEntry.Kind.DECIDED, text=text, user=user, now=now)
