"""What people change of an experiment while it runs. Nothing that runs is ended by it, and its log tells who did what.

Whatever lets more start asks for a tick in the same transaction, by way of experiments.fleet.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import transaction

from experiments import fleet, planning
from experiments.access import named, require_approved, require_control
from experiments.documents.schema import AUTO, MAX_INTEGER
from experiments.models import Experiment, PlanEntry

MAX_DIGITS = len(str(MAX_INTEGER))
MAX_ECHO = 60  # characters of a bad value that its refusal repeats


class BadWindow(Exception):
    def __init__(self, given: object) -> None:
        told = repr(given)
        shown = told if len(told) <= MAX_ECHO else f"{told[:MAX_ECHO]}..."
        super().__init__(
            f"max_parallel={shown} is no number of jobs; give a whole number of 1 or more (at most {MAX_INTEGER}), "
            "or auto."
        )


@transaction.atomic
def pause(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> bool:
    """Start nothing more of it; False where it was paused before. Raises NotApproved, PermissionDenied."""
    _require_steering(experiment, user)
    unpaused = Experiment.objects.filter(pk=experiment.pk, paused_at__isnull=True)
    if not unpaused.update(paused_at=now, paused_by=named(user)):
        return False
    _log(experiment, "Paused.", user, now)
    return True


@transaction.atomic
def unpause(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> bool:
    """Go on, at once; False where it was not paused. Raises NotApproved, PermissionDenied."""
    _require_steering(experiment, user)
    paused = Experiment.objects.filter(pk=experiment.pk, paused_at__isnull=False)
    if not paused.update(paused_at=None, paused_by=""):
        return False
    _log(experiment, "Unpaused.", user, now)
    fleet.schedule().request_tick()
    return True


@transaction.atomic
def set_window(
    *, experiment: Experiment, max_parallel: object, user: AbstractUser | None, now: datetime
) -> None:
    """How many of its jobs may be open at once, as a person gave it: a number, or one in a text, or auto.

    An automatic window begins with what it is, and forgets what ran out of memory before. A smaller window ends
    none: nothing starts until enough have ended. Raises BadWindow, NotApproved, PermissionDenied.
    """
    _require_steering(experiment, user)
    change: dict[str, object]
    if max_parallel == AUTO:
        change = {"max_parallel_is_auto": True, "window_changed_at": None, "window_halved_at": now}
    else:
        change = {"max_parallel_is_auto": False, "max_parallel": _number(max_parallel)}
    this = Experiment.objects.filter(pk=experiment.pk)
    before = this.select_for_update().values("max_parallel", "max_parallel_is_auto").get()
    if change.items() <= before.items():
        return
    this.update(**change)
    _log(experiment, f"Jobs at a time: {_told(change)}; before: {_told(before)}.", user, now)
    fleet.schedule().request_tick()


def _told(window: Mapping[str, Any]) -> str:
    number = window.get("max_parallel", "")
    return f"automatic {number}".rstrip() if window["max_parallel_is_auto"] else str(number)


def _log(experiment: Experiment, text: str, user: AbstractUser | None, now: datetime) -> None:
    planning.record(experiment=experiment, kind=PlanEntry.Kind.DECIDED, text=text, user=user, now=now)


def _number(given: object) -> int:
    number = int(given) if isinstance(given, str) and _is_short_number(given.strip()) else given
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MAX_INTEGER:
        return number
    raise BadWindow(given)


def _is_short_number(given: str) -> bool:
    """Longer ones are too large in any case, and Python refuses to read the longest."""
    return given.isdecimal() and len(given) <= MAX_DIGITS


def _require_steering(experiment: Experiment, user: AbstractUser | None) -> None:
    require_control(experiment, user)
    require_approved(experiment)
