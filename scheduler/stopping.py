"""Stopping labmgr with its runs."""

from datetime import datetime

from django.db import transaction

from experiments.states import OPEN_JOB_STATES
from scheduler.models import Job, TickRequest


@transaction.atomic
def stop_jobs(*, now: datetime) -> int:
    """Nothing is placed any more, and every open job is asked to end; returns how many there are. May be repeated."""
    TickRequest.objects.update_or_create(pk=1, defaults={"is_stopping": True})
    jobs = Job.objects.filter(state__in=OPEN_JOB_STATES)
    jobs.filter(cancel_requested_at__isnull=True).update(cancel_requested_at=now)
    return jobs.count()
