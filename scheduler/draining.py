"""Keeping nodes and single devices from taking new jobs, as people ask for it. What runs there goes on.

What breaks is drained by scheduler.inventory, with its own words, which stay whatever people say, and undrained here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from experiments.access import named
from scheduler.dispatch import request_tick
from scheduler.models import Device, Node

MAX_REASON_LENGTH = 1000
_BY = "Drained by "


class BadReason(Exception):
    """It cannot be kept as the reason of a drain."""


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What came of draining. What took no jobs already is told with what was said of it before."""

    new: int = 0  # that take no new jobs from now on
    retold: Mapping[int, str]  # id -> what was said of it, of those that have the reason that was given now
    kept: Mapping[int, str]  # the same, of those of which it is said still

    @property
    def already(self) -> dict[int, str]:
        return {**self.retold, **self.kept}


def may_drain(user: AbstractUser | None) -> bool:
    return user is None or user.has_perm("scheduler.change_device")


def by_a_person(message: str) -> bool:
    """Whether that is a person's word on what is drained, which another may replace."""
    return message.startswith(_BY)


@transaction.atomic
def drain(
    *, device_ids: Iterable[int], user: AbstractUser | None, now: datetime, because: str = ""
) -> Drained:
    """Let devices take no new jobs. Raises BadReason, PermissionDenied."""
    _require(user)
    reason = _one_line(because)
    chosen = Device.objects.filter(pk__in=list(device_ids)).order_by("pk").select_for_update()
    rows = list(chosen.values_list("pk", "state", "state_message"))
    available = [pk for pk, state, _ in rows if state == Device.State.AVAILABLE]
    retold, kept = _apart(((pk, told) for pk, _, told in rows if pk not in available), reason)
    Device.objects.filter(pk__in=[*available, *retold]).update(
        state=Device.State.DRAINED, state_message=_told(user, now, reason)
    )
    return Drained(new=len(available), retold=retold, kept=kept)


@transaction.atomic
def undrain(*, device_ids: Iterable[int], user: AbstractUser | None) -> int:
    """Let drained and quarantined devices take jobs again, at once; returns how many. Raises PermissionDenied."""
    _require(user)
    withheld = [Device.State.DRAINED, Device.State.QUARANTINED]
    devices = Device.objects.filter(pk__in=list(device_ids), state__in=withheld)
    undrained = devices.update(state=Device.State.AVAILABLE, state_message="")
    if undrained:
        request_tick()
    return undrained


@transaction.atomic
def drain_nodes(
    *, node_ids: Iterable[int], user: AbstractUser | None, now: datetime, because: str = ""
) -> Drained:
    """Let nodes take no new jobs, whatever becomes of their devices. Raises BadReason, PermissionDenied."""
    _require(user)
    reason = _one_line(because)
    chosen = Node.objects.filter(pk__in=list(node_ids)).order_by("pk").select_for_update()
    rows = list(chosen.values_list("pk", "is_draining", "drain_message"))
    new = [pk for pk, is_draining, _ in rows if not is_draining]
    retold, kept = _apart(((pk, told) for pk, _, told in rows if pk not in new), reason)
    Node.objects.filter(pk__in=[*new, *retold]).update(
        is_draining=True, drain_message=_told(user, now, reason)
    )
    return Drained(new=len(new), retold=retold, kept=kept)


@transaction.atomic
def undrain_nodes(*, node_ids: Iterable[int], user: AbstractUser | None) -> int:
    """Let nodes take jobs again, at once, on the devices that are not drained themselves; returns how many.

    Raises PermissionDenied.
    """
    _require(user)
    undrained = Node.objects.filter(pk__in=list(node_ids), is_draining=True).update(
        is_draining=False, drain_message=""
    )
    if undrained:
        request_tick()
    return undrained


def _require(user: AbstractUser | None) -> None:
    if not may_drain(user):
        raise PermissionDenied("Draining needs the permission scheduler.change_device.")


def _apart(rows: Iterable[tuple[int, str]], reason: str) -> tuple[dict[int, str], dict[int, str]]:
    """What is withheld, as what the reason is for and the rest; a reason that is said again changes no date."""
    before = dict(rows)
    is_new = {pk: reason not in ("", _reason_of(told)) and by_a_person(told) for pk, told in before.items()}
    return (
        {pk: told for pk, told in before.items() if is_new[pk]},
        {pk: told for pk, told in before.items() if not is_new[pk]},
    )


def _told(user: AbstractUser | None, now: datetime, reason: str) -> str:
    by = f"{_BY}{named(user)} on {timezone.localtime(now):%Y-%m-%d %H:%M}"
    return f"{by}: {reason}." if reason else f"{by}."


def _reason_of(told: str) -> str:
    return told.partition(": ")[2].removesuffix(".")  # names of users have no colons


def _one_line(because: str) -> str:
    """It stands within other sentences, and in the lines that commands print."""
    reason = " ".join(because.split())
    if len(reason) > MAX_REASON_LENGTH:
        raise BadReason(
            f"The reason has {len(reason):,} characters; shorten it to {MAX_REASON_LENGTH:,} at most."
        )
    if "\0" in reason:
        raise BadReason("The reason has a null character; leave it out.")
    return reason.rstrip(".")
