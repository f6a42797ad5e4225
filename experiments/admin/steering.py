"""What people change of an experiment that runs: each is one call into `experiments.steering`, and a message."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from experiments import steering
from experiments.access import NotApproved
from experiments.admin.base import person, url_of
from experiments.models import Experiment
from experiments.steering import BadWindow


def pause(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    try:
        is_new = steering.pause(experiment=experiment, user=person(request), now=timezone.now())
    except NotApproved as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "Paused. What runs goes on." if is_new else "It was paused already.")
    return redirect(url_of(experiment))


def unpause(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    try:
        goes_on = steering.unpause(experiment=experiment, user=person(request), now=timezone.now())
    except NotApproved as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "It goes on." if goes_on else "It was not paused.")
    return redirect(url_of(experiment))


def set_window(request: HttpRequest, experiment: Experiment) -> HttpResponse:
    window = request.POST.get("max_parallel", "")
    try:
        steering.set_window(
            experiment=experiment, max_parallel=window, user=person(request), now=timezone.now()
        )
    except (BadWindow, NotApproved) as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"Jobs at a time: {window}. What runs goes on.")
    return redirect(url_of(experiment))
