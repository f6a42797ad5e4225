"""Keeping nodes and single devices from taking new jobs, as people ask for it. What runs there goes on.

What breaks is drained by scheduler.inventory, with its own words, and undrained here.
"""

from collections.abc import Iterable

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction

from experiments.access import named
from scheduler.dispatch import request_tick
from scheduler.models import Device, Node

MAX_REASON_LENGTH = 1000


class BadReason(Exception):
    """It cannot be kept as the reason of a drain."""


def may_drain(user: AbstractUser | None) -> bool:
    return user is None or user.has_perm("scheduler.change_device")


def drain(*, device_ids: Iterable[int], user: AbstractUser | None, because: str = "") -> int:
    """Let devices take no new jobs; returns how many were available. Raises BadReason, PermissionDenied."""
    _require(user)
    available = Device.objects.filter(pk__in=list(device_ids), state=Device.State.AVAILABLE)
    return available.update(state=Device.State.DRAINED, state_message=_told(user, because))


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


def drain_nodes(*, node_ids: Iterable[int], user: AbstractUser | None, because: str = "") -> int:
    """Let nodes take no new jobs, whatever becomes of their devices; returns how many did.

    Raises BadReason, PermissionDenied.
    """
    _require(user)
    nodes = Node.objects.filter(pk__in=list(node_ids), is_draining=False)
    return nodes.update(is_draining=True, drain_message=_told(user, because))


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


def _told(user: AbstractUser | None, because: str) -> str:
    reason = _one_line(because).rstrip(".")
    return f"Drained by {named(user)}: {reason}." if reason else f"Drained by {named(user)}."


def _one_line(because: str) -> str:
    """It stands within other sentences, and in the lines that commands print."""
    reason = " ".join(because.split())
    if len(reason) > MAX_REASON_LENGTH:
        raise BadReason(
            f"The reason has {len(reason):,} characters; shorten it to {MAX_REASON_LENGTH:,} at most."
        )
    if "\0" in reason:
        raise BadReason("The reason has a null character; leave it out.")
    return reason
