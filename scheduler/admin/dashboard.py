"""What the index page shows, as far as this person may see it."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from experiments.admin.base import person
from experiments.admin.progress import progress_of
from experiments.models import Experiment, Run
from experiments.states import RunState
from scheduler.admin.devices import HELD
from scheduler.models import Device
from scheduler.queries import waiting_reasons

DEVICES, EXPERIMENTS, RUNS = 64, 8, 8  # shown of each; the lists have the rest


def context(request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK."""
    return {**given, "title": "Dashboard", **sections(person(request))}


def live_view(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "admin/dashboard_live.html", sections(person(request)))


def sections(user: AbstractUser) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if user.has_perm("scheduler.view_device"):
        shown |= _devices()
    if user.has_perm("experiments.view_experiment"):
        shown |= _experiments() | {"may_add": user.has_perm("experiments.add_experiment")}
    if user.has_perm("experiments.view_run"):
        shown |= _queue() | _running() | _finished()
    return shown


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
