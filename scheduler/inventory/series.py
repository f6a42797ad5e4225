"""Readings as a time series with an end: every one of the last day, then one every ten minutes of two weeks.

At one in 15 seconds that is at most 7,800 rows a device. A row knows until when it is kept, so that pruning is one
statement; one that a wrong clock dated into the future goes, too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from scheduler.models import HostReading, Reading

WHOLE = timedelta(days=1)
THINNED = timedelta(days=14)
POINTS = 500
_STEP_SECONDS = 600
_AHEAD = timedelta(minutes=5)  # clocks of several nodes differ

_T = TypeVar("_T")
_Row = TypeVar("_Row", bound=Model)


def keep_until(*, at: datetime, before: datetime | None) -> datetime:
    """The first reading of every ten minutes stays; `before` is when the one before was made."""
    is_first = before is None or _bucket(before) != _bucket(at)
    return at + (THINNED if is_first else WHOLE)


def prune(*, now: datetime) -> int:
    """Remove what need not be kept; returns how many rows."""
    past = Q(keep_until__lt=now) | Q(keep_until__gt=now + THINNED + _AHEAD)
    return sum(model._default_manager.filter(past).delete()[0] for model in (Reading, HostReading))


def recent(readings: QuerySet[_Row], *, since: datetime, most: int = POINTS) -> list[_Row]:
    """What was measured since then, thinned to what a plot can show."""
    return thinned(list(readings.filter(at__gte=since).order_by("at")), most=most)


def thinned(rows: Sequence[_T], *, most: int) -> list[_T]:
    """At most so many, evenly; the last one always."""
    step = -(-len(rows) // most) if rows else 1
    return list(rows[::-1][::step][::-1])


def _bucket(at: datetime) -> int:
    return int(at.timestamp()) // _STEP_SECONDS
