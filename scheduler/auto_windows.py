"""Automatic windows are moved by the ticker, before it decides, and halved by what ends a job: see window_rule for how.

Whether one more would start is asked of the same decision that the tick makes, with windows larger by one.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from experiments.models import Experiment, Run, RunEvent
from experiments.states import FinishReason, RunKind, RunState
from scheduler import queue
from scheduler.models import Device
from scheduler.window_rule import PROVEN_AFTER_SECONDS, WindowFacts, next_window

_COLUMNS = ("max_parallel", "open_jobs", "window_changed_at", "window_halved_at")


def adjust(*, now: datetime, pool: str | None = None, most: int | None = None) -> None:
    """Move the windows of what waits; `pool` and `most` are as for a tick."""
    experiments = list(_that_wait())
    if not experiments:
        return
    proven = [experiment for experiment in experiments if _is_proven(experiment, now)]
    starting = _that_would_start(proven, now, pool, most)
    for experiment in experiments:
        _answer(
            experiment,
            now,
            is_proven=experiment in proven,
            one_more_would_start=experiment.pk in starting,
        )


def halve(*, experiment_ids: Collection[int], now: datetime) -> None:
    """Answer runs that have just run out of memory, in the transaction that says so: the agent refills after it, and must
    not start the next one into a window that was too large."""
    for experiment in _that_wait().filter(pk__in=experiment_ids):
        _answer(experiment, now)


def _answer(
    experiment: Experiment, now: datetime, *, is_proven: bool = False, one_more_would_start: bool = False
) -> None:
    facts = WindowFacts(
        devices=_devices_of(experiment).count(),
        ran_out_of_memory=_ran_out_of_memory(experiment),
        is_proven=is_proven,
        one_more_would_start=one_more_would_start,
    )
    _move(experiment, next_window(experiment.max_parallel, facts), facts, now)


def _that_wait() -> QuerySet[Experiment]:
    """Without their documents."""
    waiting = Run.objects.queued().filter(cell__experiment=OuterRef("pk"))
    approved = Experiment.objects.filter(max_parallel_is_auto=True, approved_at__isnull=False)
    return approved.filter(Exists(waiting)).only(*_COLUMNS).order_by("pk")


def _that_would_start(
    experiments: Sequence[Experiment], now: datetime, pool: str | None, most: int | None
) -> set[int]:
    """Those that would have one more job now, were it not for their windows."""
    full = {experiment.pk for experiment in experiments if experiment.open_jobs == experiment.max_parallel}
    idle = Device.objects.filter(state=Device.State.AVAILABLE, allocated_mib__lt=F("memory_mib"))
    if not full or not idle.exists():
        return set()
    decision = queue.decide(now=now, pool=pool, most=most, wider=full)
    return full & {placement.item.experiment_id for placement in decision.placements}


def _is_proven(experiment: Experiment, now: datetime) -> bool:
    for_long = now - timedelta(seconds=PROVEN_AFTER_SECONDS)
    good = Q(state=RunState.SUCCEEDED) | Q(state=RunState.RUNNING, started_at__lte=for_long)
    runs = Run.objects.filter(good, cell__experiment=experiment)
    if experiment.window_changed_at:
        runs = runs.filter(started_at__gte=experiment.window_changed_at)
    return runs.exists()


def _ran_out_of_memory(experiment: Experiment) -> bool:
    """Of runs that were started before the last halving nothing is learned that it did not say."""
    ends = RunEvent.objects.filter(run__cell__experiment=experiment, reason=FinishReason.OUT_OF_MEMORY)
    if halved_at := experiment.window_halved_at:
        starts = RunEvent.objects.filter(run=OuterRef("run"), state=RunState.RUNNING)
        since = starts.filter(at__gte=halved_at, at__lte=OuterRef("at"))
        ends = ends.filter(Exists(since), at__gt=halved_at)
    return ends.exists()


def _devices_of(experiment: Experiment) -> QuerySet[Device]:
    """Those in the pools that its waiting runs ask for."""
    asked = Run.objects.queued().filter(cell__experiment=experiment).order_by().values_list("pool", "kind")
    there = Q(pk__in=[])
    for pool, kind in asked.distinct():
        there |= Q(node__pool=pool, node__is_simulated=kind == RunKind.SIMULATED)
    return Device.objects.filter(there).exclude(state=Device.State.GONE)


def _move(experiment: Experiment, window: int, facts: WindowFacts, now: datetime) -> None:
    """A guarded update: of ticks side by side one moves it, and what a person set meanwhile stays."""
    if window == experiment.max_parallel and not facts.ran_out_of_memory:
        return
    unmoved = Experiment.objects.filter(
        pk=experiment.pk,
        max_parallel_is_auto=True,
        window_changed_at=experiment.window_changed_at,
        window_halved_at=experiment.window_halved_at,
    )
    halved_at = now if facts.ran_out_of_memory else experiment.window_halved_at
    lost_devices = window < experiment.max_parallel and not facts.ran_out_of_memory
    changed_at = experiment.window_changed_at if lost_devices else now  # what is lost proves nothing
    unmoved.update(max_parallel=window, window_changed_at=changed_at, window_halved_at=halved_at)
