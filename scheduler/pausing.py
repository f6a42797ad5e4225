"""Pausing the whole queue, and what is said of whatever is paused. Single experiments: experiments.steering."""

from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.db.models import Exists, OuterRef

from experiments.access import named, require_control_of_all
from experiments.models import Experiment, Run
from scheduler.dispatch import request_tick
from scheduler.models import TickRequest


def pause_queue(*, user: AbstractUser | None, now: datetime) -> bool:
    """Start nothing any more: nothing is placed once this has returned. False where it was paused before.

    Raises PermissionDenied.
    """
    require_control_of_all(user)
    with transaction.atomic(durable=True):
        TickRequest.objects.get_or_create(pk=1)
        unpaused = TickRequest.objects.filter(pk=1, paused_at__isnull=True)
        is_new = bool(unpaused.update(paused_at=now, paused_by=named(user)))
    _outwait_placements()
    return is_new


@transaction.atomic
def unpause_queue(*, user: AbstractUser | None) -> bool:
    """Go on, at once; False where it was not paused. Raises PermissionDenied."""
    require_control_of_all(user)
    paused = TickRequest.objects.filter(pk=1, paused_at__isnull=False)
    if not paused.update(paused_at=None, paused_by=""):
        return False
    request_tick()
    return True


def queue_pause() -> str:
    """Such as "the queue is paused by ana since 2026-01-02 12:00"; empty while it is not."""
    row = TickRequest.objects.filter(paused_at__isnull=False).first()
    return f"the queue {row.pause}" if row else ""


def pause_of(experiment: Experiment) -> str:
    """Such as "ranks is paused by ana since 2026-01-02 12:00"; empty while it is not."""
    return f"{experiment.name} {experiment.pause}" if experiment.pause else ""


def paused_runs() -> dict[int, str]:
    """Queued runs that wait since something is paused: run id -> what, by whom and since when."""
    queued = Run.objects.queued()
    if everything := queue_pause():
        return dict.fromkeys(queued.values_list("pk", flat=True), everything)
    paused = Experiment.objects.filter(paused_at__isnull=False)
    told = {experiment.pk: pause_of(experiment) for experiment in paused}
    held = queued.paused().values_list("pk", "cell__experiment")
    return {run_id: told[experiment_id] for run_id, experiment_id in held if experiment_id in told}


def _outwait_placements() -> None:
    """Until what was being placed is committed: it holds the locks of its experiments, taken before it looked whether
    the queue is paused. (SQLite has one writer at a time, so that beginning a transaction has waited already.)"""
    with transaction.atomic():
        queued = Run.objects.queued().filter(cell__experiment=OuterRef("pk"))
        waiting = Experiment.objects.filter(Exists(queued)).order_by("pk")
        list(waiting.select_for_update().values_list("pk"))
