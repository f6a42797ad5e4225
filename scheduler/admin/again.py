"""The page that shows what of an experiment would be run again, and has it done."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone

from experiments.access import NotApproved
from experiments.admin.base import LabAdmin, person, url_of
from experiments.documents import InvalidDocument
from experiments.models import Experiment
from experiments.rerunning import CannotRerun, Which
from scheduler import reruns

_LABELS = {
    Which.FAILED: "Failed or cancelled",
    Which.MISSING: "Results missing",
    Which.CHANGED: "Inputs changed",
}
_NOTHING = {
    Which.FAILED: "Nothing has failed or was cancelled.",
    Which.MISSING: "The results of everything that succeeded are there.",
    Which.CHANGED: "Everything that ran would run the same way again.",
}
MOST_SHOWN = 500


def page(admin: LabAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    experiment = _seen(request, pk)
    chosen = request.POST.get("which") or request.GET.get("which")
    if request.method == "POST" and chosen not in set(Which):
        messages.error(request, "Nothing is queued: choose which runs are run again.")
        return redirect(request.path)
    which = Which(chosen) if chosen in set(Which) else Which.FAILED
    asked: dict[str, Any] = {
        "experiment": experiment,
        "which": which,
        "user": person(request),
        "now": timezone.now(),
    }
    try:
        if request.method == "POST":
            return _queue(request, experiment, asked)
        found, refusal = reruns.wanted(**asked), ""
    except (CannotRerun, InvalidDocument, NotApproved) as refused:
        found, refusal = [], str(refused)
    return admin.page(
        request,
        "admin/experiments/run/again.html",
        f"Run {experiment} again",
        original=experiment,
        choices=[(choice, label, choice is which) for choice, label in _LABELS.items()],
        which=which,
        wanted=found[:MOST_SHOWN],
        count=len(found),
        nothing=_NOTHING[which],
        refusal=refusal,
        needs_approval=any(want.changes_spec for want in found),
        may_approve=person(request).has_perm("experiments.approve_plan"),
    )


def _seen(request: HttpRequest, pk: int) -> Experiment:
    if not person(request).has_perm("experiments.view_experiment"):
        raise PermissionDenied
    return get_object_or_404(Experiment, pk=pk)


def _queue(request: HttpRequest, experiment: Experiment, asked: dict[str, Any]) -> HttpResponse:
    queued = len(reruns.rerun(**asked))
    if queued:
        messages.success(request, f"{queued} run{'s are' if queued > 1 else ' is'} queued again.")
    else:
        messages.info(request, "There is nothing to run again.")
    return redirect(url_of(experiment))
