"""When the queue, or a plan that is not approved yet, would be done, here or on other hardware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Count

from experiments.models import Experiment, Run
from experiments.models.runs import RunQuerySet
from experiments.states import RunState
from scheduler import forecasting, inventory, pausing
from scheduler.allocation import FreeNode, empty_node
from scheduler.forecasting import Outset
from scheduler.playing import Key, Turn


@dataclass(frozen=True, kw_only=True)
class Prospect:
    experiment: str
    runs: int
    without_estimate: int  # these count with their limits
    never: int  # no node could ever hold them
    start_seconds: float | None  # from now: of its first run
    end_seconds: float | None  # of its last
    window_is_auto: bool = False  # then it is taken to hold nothing back
    paused: str = ""  # by whom and since when; then nothing is expected of it


def prospects(*, experiment: Experiment | None, devices: str | None, now: datetime) -> list[Prospect]:
    """One for each experiment that has something to run, or of the one that is asked about, with the queue ahead of it.

    `devices`, such as 8x80GiB, is what would be there instead of the lab's own. What is paused is told and left out.
    Raises ImproperlyConfigured.
    """
    runs = Run.objects.queued()
    if experiment and experiment.is_draft:
        runs |= Run.objects.filter(cell__experiment=experiment, state=RunState.PLANNED)
    paused = _paused(runs.filter(cell__experiment=experiment) if experiment else runs)
    outset = forecasting.read(now=now, runs=runs).with_grown_windows()
    if pausing.queue_pause() or (experiment and paused):
        return paused
    asked = [experiment.pk] if experiment else list(dict.fromkeys(run.experiment_id for run in outset.runs))
    known = {row.pk: row for row in Experiment.objects.filter(pk__in={*asked, *outset.windows})}
    windows = {pk: row.max_parallel for pk, row in known.items() if not row.max_parallel_is_auto}
    if devices:
        outset = replace(outset, nodes=_instead(devices, outset), jobs=(), windows=windows)
    else:
        outset = replace(outset, windows={**windows, **outset.windows})
    turns = outset.play(by_limits=True)
    return [*(_prospect(known[pk], outset, turns) for pk in asked), *paused]


def _paused(runs: RunQuerySet) -> list[Prospect]:
    """Of the experiments that are paused, or of all of them where the queue is."""
    everything = pausing.queue_pause()
    counted = (runs if everything else runs.paused()).order_by().values_list("cell__experiment")
    counts = dict(counted.annotate(runs=Count("pk")))
    return [
        Prospect(
            experiment=experiment.name,
            runs=counts[experiment.pk],
            without_estimate=0,
            never=0,
            start_seconds=None,
            end_seconds=None,
            paused=everything or pausing.pause_of(experiment),
        )
        for experiment in Experiment.objects.filter(pk__in=counts).order_by("pk")
    ]


def _instead(devices: str, outset: Outset) -> Sequence[FreeNode]:
    """For every pool that is asked for, a node for real runs and one for simulated ones."""
    offered = inventory.read_simulated(name="instead", text=devices).devices
    memory_mib = offered[0].memory_mib if offered else 0
    return [
        empty_node(
            f"instead-{pool}-{simulated}",
            devices=len(offered),
            memory_mib=memory_mib,
            pool=pool,
            simulated=simulated,
        )
        for pool in sorted({run.pool for run in outset.runs})
        for simulated in (False, True)
    ]


def _prospect(experiment: Experiment, outset: Outset, turns: Mapping[Key, Turn]) -> Prospect:
    mine = [run.run_id for run in outset.runs if run.experiment_id == experiment.pk]
    found = [turns[run_id] for run_id in mine if run_id in turns]
    return Prospect(
        experiment=experiment.name,
        runs=len(mine),
        without_estimate=sum(run_id not in outset.seconds for run_id in mine),
        never=len(mine) - len(found),
        start_seconds=min((turn.start_at for turn in found), default=None),
        end_seconds=max((turn.end_at for turn in found), default=None),
        window_is_auto=experiment.max_parallel_is_auto,
    )
