"""Readings are a series with an end."""

from datetime import datetime, timedelta

import pytest

from scheduler.inventory import series
from scheduler.models import Device, Reading
from tests.factories import NOW, make_device

pytestmark = pytest.mark.django_db

EVERY = timedelta(seconds=150)


def readings(device: Device, *, start: datetime, end: datetime) -> None:
    """As a lookout makes them."""
    rows: list[Reading] = []
    before: datetime | None = None
    at = start
    while at < end:
        until = series.keep_until(at=at, before=before)
        rows.append(Reading(device=device, at=at, keep_until=until, used_mib=1, foreign_mib=0))
        at, before = at + EVERY, at
    Reading.objects.bulk_create(rows)


def test_the_last_day_is_kept_whole_two_weeks_thinned_and_nothing_older() -> None:
    device = make_device()
    readings(device, start=NOW - timedelta(days=16), end=NOW)
    series.prune(now=NOW)
    day = Reading.objects.filter(at__gte=NOW - timedelta(days=1)).count()
    older = Reading.objects.filter(at__lt=NOW - timedelta(days=1))
    assert day == 24 * 24
    assert older.count() == 13 * 24 * 6
    assert min(row.at for row in older) == NOW - timedelta(days=14)


def test_readings_that_a_wrong_clock_dated_into_the_future_go_too() -> None:
    readings(make_device(), start=NOW + timedelta(days=400), end=NOW + timedelta(days=400, minutes=10))
    assert series.prune(now=NOW) == 4


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250, 1000])
def test_thinning_keeps_the_last_and_never_more_than_asked(count: int) -> None:
    rows = list(range(count))
    kept = series.thinned(rows, most=100)
    assert len(kept) <= 100
    assert kept[-1:] == rows[-1:]
    assert kept == sorted(kept)
