"""Stopping labmgr with its runs, or keeping single devices from taking new ones."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from experiments.states import OPEN_JOB_STATES
from scheduler.dispatch import request_tick
from scheduler.models import Device, Job, TickRequest


@transaction.atomic
def stop_jobs(*, now: datetime) -> int:
    """Nothing is placed any more, and every open job is asked to end; returns how many there are. May be repeated."""
    TickRequest.objects.update_or_create(pk=1, defaults={"is_paused": True})
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES)
    jobs.filter(cancel_requested_at__isnull=True).update(cancel_requested_at=now)
    return jobs.count()


def drain(*, device_ids: Iterable[int], by: str) -> int:
    """Let devices take no new jobs; returns how many were available. What runs there goes on."""
    return _move(device_ids, [Device.State.AVAILABLE], Device.State.DRAINED, f"Drained by {by}.")


def resume(*, device_ids: Iterable[int]) -> int:
    """Let drained and quarantined devices take jobs again, at once; returns how many."""
    return _move(device_ids, [Device.State.DRAINED, Device.State.QUARANTINED], Device.State.AVAILABLE, "")


@transaction.atomic
def _move(
    device_ids: Iterable[int], leaving: list[Device.State], entering: Device.State, message: str
) -> int:
    """A guarded update: what the agent changed in the meantime stays."""
    devices = Device.objects.filter(pk__in=list(device_ids), state__in=leaving)
    moved = devices.update(state=entering, state_message=message)
    if moved:
        request_tick()
    return moved
