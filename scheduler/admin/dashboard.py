"""What the index page shows, as far as this person may see it."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_POST

from experiments.access import may_control_all
from experiments.admin.base import person
from experiments.admin.progress import progress_of
from experiments.models import Experiment, Run
from experiments.states import RunState
from scheduler import pausing
from scheduler.admin.devices import HELD
from scheduler.models import Device
from scheduler.queries import waiting_reasons

DEVICES, EXPERIMENTS, RUNS = 64, 8, 8  # shown of each; the lists have the rest


def context(request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK."""
    user = person(request)
    return {**given, "title": "Dashboard", "may_steer_queue": _may_steer_queue(user), **sections(user)}


def live_view(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "admin/dashboard_live.html", sections(person(request)))


def sections(user: AbstractUser) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if user.has_perm("scheduler.view_device"):
        shown |= _devices()
    if user.has_perm("experiments.view_experiment"):
        shown |= _experiments() | {"may_add": user.has_perm("experiments.add_experiment")}
    if user.has_perm("experiments.view_run"):
        shown |= {"queue_pause": pausing.queue_pause()} | _queue() | _running() | _finished()
    return shown


@require_POST
def pause_view(request: HttpRequest) -> HttpResponse:
    is_new = pausing.pause_queue(user=person(request), now=timezone.now())
    messages.success(
        request, "The queue is paused. What runs goes on." if is_new else "It was paused already."
    )
    return redirect("admin:index")


@require_POST
def unpause_view(request: HttpRequest) -> HttpResponse:
    goes_on = pausing.unpause_queue(user=person(request))
    messages.success(request, "The queue goes on." if goes_on else "It was not paused.")
    return redirect("admin:index")


def _may_steer_queue(user: AbstractUser) -> bool:
    """Whether to offer the button; `scheduler.pausing` decides."""
    return user.has_perm("experiments.view_run") and may_control_all(user)


def _devices() -> dict[str, Any]:
    devices = Device.objects.select_related("node")
    return {
        "sees_devices": True,
        "devices": list(devices.prefetch_related(HELD).order_by("node__name", "index")[:DEVICES]),
        "devices_total": devices.count(),
        "devices_busy": devices.filter(allocated_mib__gt=0).count(),
    }


def _experiments() -> dict[str, Any]:
    unfinished = Run.objects.unfinished().filter(cell__experiment=OuterRef("pk"))
    chosen = list(Experiment.objects.filter(Exists(unfinished)).select_related("created_by")[:EXPERIMENTS])
    progress = progress_of(chosen)
    return {
        "sees_experiments": True,
        "any_experiment": bool(chosen) or Experiment.objects.exists(),
        "in_progress": [(experiment, progress[experiment.pk]) for experiment in chosen],
    }


def _queue() -> dict[str, Any]:
    queued = Run.objects.queued().select_related("cell__experiment")
    total = queued.count()
    reasons = waiting_reasons() if total else {}
    first = queued.order_by("-priority", "queued_at", "id")[:RUNS]
    return {
        "sees_runs": True,
        "queued_total": total,
        "queued": [(run, reasons.get(run.pk, "")) for run in first],
    }


def _running() -> dict[str, Any]:
    running = Run.objects.filter(state=RunState.RUNNING)
    return {
        "running_total": running.count(),
        "running": list(running.select_related("cell__experiment").order_by("-started_at", "-id")[:RUNS]),
    }


def _finished() -> dict[str, Any]:
    ended = Run.objects.filter(state__in=[RunState.SUCCEEDED, RunState.FAILED])
    since = timezone.now() - timedelta(days=1)
    return {
        "finished": list(ended.select_related("cell__experiment").order_by("-finished_at", "-id")[:RUNS]),
        "failed_today": ended.filter(state=RunState.FAILED, finished_at__gte=since).count(),
    }
