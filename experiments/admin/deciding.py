"""What people decide about a plan in the admin: each is one call into `experiments.control`, and a message."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from experiments import control
from experiments.admin.base import person, url_of
from experiments.admin.forms import answers_given
from experiments.control import AlreadyDecided, Unanswered
from experiments.documents import InvalidDocument
from experiments.lifecycle import NotADraft
from experiments.models import Experiment, Proposal
from experiments.planning import NameTaken, Outdated

REFUSALS = (AlreadyDecided, NameTaken, NotADraft, Outdated, Unanswered)
GONE = "That proposal is no longer made: the plan was estimated anew meanwhile. Look at it again."


def approve(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    try:
        answers = answers_given(experiment, request.POST)
        queued = control.approve(
            experiment=experiment, user=person(request), now=timezone.now(), answers=answers
        )
    except (*REFUSALS, InvalidDocument) as refusal:
        _refuse(request, refusal)
    else:
        messages.success(request, f"The plan is approved; {queued} runs are queued.")
    return redirect(url_of(experiment))


def accept(request: HttpRequest, experiment: Experiment, proposal_id: int) -> HttpResponse:
    """Goes on to the draft that it changed or made."""
    proposal = _proposal(request, experiment, proposal_id)
    if proposal is None:
        return redirect(url_of(experiment))
    try:
        made = control.accept(proposal=proposal, user=person(request), now=timezone.now())
    except (*REFUSALS, InvalidDocument) as refusal:
        _refuse(request, refusal)
        return redirect(url_of(experiment))
    messages.success(request, f"Accepted: {proposal.title}.")
    return redirect(url_of(made))


def decline(request: HttpRequest, experiment: Experiment, proposal_id: int) -> HttpResponse:
    proposal = _proposal(request, experiment, proposal_id)
    if proposal is None:
        return redirect(url_of(experiment))
    try:
        control.decline(proposal=proposal, user=person(request), now=timezone.now())
    except REFUSALS as refusal:
        _refuse(request, refusal)
    else:
        messages.success(request, f"Declined: {proposal.title}.")
    return redirect(url_of(experiment))


def _proposal(request: HttpRequest, experiment: Experiment, proposal_id: int) -> Proposal | None:
    """By its id, so that nothing else is decided than what was shown."""
    proposal = experiment.proposals.select_related("experiment").filter(pk=proposal_id).first()
    if proposal is None:
        messages.error(request, GONE)
    return proposal


def _refuse(request: HttpRequest, refusal: Exception) -> None:
    problems = refusal.problems if isinstance(refusal, InvalidDocument) else [refusal]
    for problem in problems:
        messages.error(request, str(problem))
