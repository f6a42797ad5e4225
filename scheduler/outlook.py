"""What plans ask of the scheduler: which devices there are, and when runs that are not queued yet would have their turn."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Count

from experiments.conditions import software_of
from experiments.fleet import AskedRun, DeviceKind, Fleet, Turn
from experiments.models import Run
from experiments.states import turn_of
from scheduler import dispatch, forecasting, pausing
from scheduler.allocation import QueueItem
from scheduler.models import Device
from scheduler.playing import Play
from scheduler.programs.environment import ml_versions

MOST_PLAYED = 2000  # runs, with those ahead; beyond it a forecast would take longer than it is worth
_MINE = 0  # no experiment has this id


class LabSchedule:
    """What settings.SCHEDULE names."""

    def fleet(self) -> Fleet:
        alike = (
            Device.objects.filter(state=Device.State.AVAILABLE)
            .values_list("model_name", "kind", "memory_mib", "node")
            .annotate(count=Count("pk"))
        )
        kinds: dict[tuple[str, str, int], list[int]] = {}
        for name, kind, memory_mib, _, count in alike.order_by():
            kinds.setdefault((name, kind, memory_mib), []).append(count)
        described = [
            DeviceKind(name=n, kind=k, memory_mib=m, count=sum(counts), most_on_a_node=max(counts))
            for (n, k, m), counts in kinds.items()
        ]
        return Fleet(
            kinds=tuple(sorted(described, key=lambda kind: (-kind.count, kind.name))),
            software=software_of(ml_versions(Path(settings.ML_PYTHON))),
        )

    def turns(self, *, runs: Sequence[AskedRun], max_parallel: int | None, now: datetime) -> Sequence[Turn]:
        too_many = len(runs) + Run.objects.queued().count() > MOST_PLAYED
        if too_many or pausing.queue_pause():
            return [Turn()] * len(runs)
        mine = [_asked(index, run, now) for index, run in enumerate(runs)]
        outset = forecasting.read(now=now).with_grown_windows()
        if max_parallel is not None:
            outset = replace(outset, windows={**outset.windows, _MINE: max_parallel})
        played = outset.play(by_limits=False, more=mine)
        found = [played.get(entry.key) for entry in mine]
        return [_turn(turn.start_at, turn.end_at, now) if turn else Turn() for turn in found]

    def request_tick(self) -> None:
        dispatch.request_tick()


def _asked(index: int, run: AskedRun, now: datetime) -> Play:
    """Keys below zero are no run's."""
    turn = turn_of(ready_at=now, priority=run.priority).timestamp()
    item = QueueItem(
        run_ids=(-1 - index,),
        experiment_id=_MINE,
        order=(turn, math.inf, index),
        devices=run.devices,
        device_memory_mib=run.device_memory_mib,
        host_memory_mib=run.host_memory_mib,
        cpu_threads=run.cpu_threads,
        simulated=run.simulated,
        pool=run.pool,
        limit_seconds=run.limit_seconds,
    )
    return Play(
        key=-1 - index,
        item=item,
        seconds=math.inf if run.seconds is None else run.seconds,
        after=None if run.after is None else -1 - run.after,
    )


def _turn(start: float, end: float, now: datetime) -> Turn:
    return Turn(
        start_at=now + timedelta(seconds=start),
        end_at=None if math.isinf(end) else now + timedelta(seconds=end),
    )
