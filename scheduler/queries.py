"""What people ask of the queue, computed when it is read."""

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import datetime
from typing import cast

from django.utils import timezone

from experiments.models import Run
from experiments.states import RunState
from scheduler import forecasting, pausing, queue
from scheduler.forecasting import Expected
from scheduler.models import Job, Launch, Node


class Reasons(Mapping[int, str]):
    """Why each queued run waits, and when it is expected to start; a sentence is made when it is read."""

    def __init__(self, reasons: Mapping[int, str], expected: Mapping[int, Expected], now: datetime) -> None:
        self._reasons = reasons
        self._expected = expected
        self._now = now

    def __getitem__(self, run_id: int) -> str:
        reason, expected = self._reasons[run_id], self._expected.get(run_id)
        return f"{reason}; {_told(expected, self._now)}" if expected else reason

    def __iter__(self) -> Iterator[int]:
        return iter(self._reasons)

    def __len__(self) -> int:
        return len(self._reasons)


def waiting_reasons() -> Reasons:
    """Run id -> why it waits."""
    now = timezone.now()
    paused = pausing.paused_runs()
    if pausing.queue_pause():
        return Reasons(paused, {}, now)
    behind = dict.fromkeys(
        Run.objects.queued().values_list("pk", flat=True),
        f"is behind the first {queue.LOOKED_AT:,} of the queue",
    )
    decision = queue.decide(now=now)
    starting = {run_id: "starts in a moment" for p in decision.placements for run_id in p.item.run_ids}
    waiting = cast(MutableMapping[int, str], decision.waiting)  # it is only read
    reasons = ChainMap(paused, _dependent(), starting, waiting, behind)
    expected = forecasting.expected_starts(now=now) if behind else {}
    return Reasons(reasons, expected, now)


def away_notes() -> dict[int, str]:
    """What to know of running runs whose node is not there: run id -> a sentence."""
    gone = Node.objects.not_there().values_list("pk", "name", "session_renewed_at")
    nodes = {pk: (name, seen) for pk, name, seen in gone}
    carried = Launch.objects.filter(is_open=True, job__node__in=nodes)
    return {
        run_id: "waits: its node {} has been away since {:%Y-%m-%d %H:%M:%S} UTC".format(*nodes[node])
        for run_id, node in carried.values_list("run", "job__node")
    }


def jobs_of(run: Run) -> list[Job]:
    return list(Job.objects.filter(launches__run=run).select_related("node").order_by("pk"))


def _dependent() -> dict[int, str]:
    """What builds on a run that has not succeeded yet."""
    waiting = Run.objects.queued().exclude(depends_on__isnull=True)
    waiting = waiting.exclude(depends_on__state=RunState.SUCCEEDED)
    names = waiting.values_list("pk", "depends_on__name")
    return {run_id: f"waits for {name} to succeed" for run_id, name in names}


def _told(expected: Expected, now: datetime) -> str:
    at = timezone.localtime(expected.start_at)
    clock = f"{at:%H:%M}" if at.date() == timezone.localtime(now).date() else f"{at:%Y-%m-%d %H:%M}"
    return f"starts by {clock} at the latest" if expected.is_latest else f"expected to start {clock}"
