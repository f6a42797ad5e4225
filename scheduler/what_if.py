"""When the queue, or a plan that is not approved yet, would be done, here or on other hardware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from experiments.models import Experiment, Run
from experiments.states import AGEING, RunKind, RunState
from scheduler import forecasting, inventory, queue
from scheduler.allocation import FreeDevice, FreeNode, QueueItem
from scheduler.playing import Key, Play, Turn, play

_NEVER_CLOSED = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Prospect:
    experiment: str
    runs: int
    without_estimate: int  # these count with their limits
    never: int  # no node could ever hold them
    start_seconds: float | None  # from now: of its first run
    end_seconds: float | None  # of its last


def prospects(*, experiment: Experiment | None, devices: str | None, now: datetime) -> list[Prospect]:
    """One for each experiment that has something to run, or of the one that is asked about, with the queue ahead of it.

    `devices`, such as 8x80GiB, is what would be there instead of the lab's own. Raises ImproperlyConfigured.
    """
    draft = _planned(experiment, now) if experiment and experiment.is_draft else []
    entries = [*forecasting.waiting(by_limits=True), *draft]
    windows = queue.open_windows()
    if experiment and experiment.is_draft:
        windows[experiment.pk] = experiment.max_parallel
    if devices:
        pools = {entry.item.pool for entry in entries}
        nodes, running = [node for pool in pools for node in _instead(devices, pool)], []
        windows = _whole_windows(windows)
    else:
        nodes, running = queue.free_nodes(), forecasting.under_way(now=now, by_limits=True)
    turns = play(queue=entries, nodes=nodes, under_way=running, windows=windows)
    wanted = [experiment.pk] if experiment else dict.fromkeys(e.item.experiment_id for e in entries)
    return [_prospect(pk, entries, turns) for pk in wanted]


def _planned(experiment: Experiment, now: datetime) -> list[Play]:
    seconds = forecasting.known_seconds()
    runs = Run.objects.filter(cell__experiment=experiment, state=RunState.PLANNED).order_by("pk")
    return [
        Play(
            key=run.pk,
            item=_item(run, experiment.pk, now),
            seconds=seconds.get(run.pk, run.limit_seconds),
            after=run.depends_on_id,
        )
        for run in runs
    ]


def _item(run: Run, experiment_id: int, now: datetime) -> QueueItem:
    return QueueItem(
        run_ids=(run.pk,),
        experiment_id=experiment_id,
        order=((now - run.priority * AGEING).timestamp(), run.pk),
        devices=run.devices,
        device_memory_mib=run.device_memory_mib,
        host_memory_mib=run.host_memory_mib,
        cpu_threads=run.cpu_threads,
        simulated=run.kind == RunKind.SIMULATED,
        pool=run.pool,
        limit_seconds=run.limit_seconds,
    )


def _whole_windows(windows: Mapping[int, int]) -> dict[int, int]:
    """On other hardware nothing is open yet."""
    return dict(Experiment.objects.filter(pk__in=windows).values_list("pk", "max_parallel"))


def _instead(devices: str, pool: str) -> Sequence[FreeNode]:
    """A node for real runs and one for simulated ones; of host memory and threads there is enough."""
    reading = inventory.read_simulated(name="instead", text=devices)
    memory_mib = reading.devices[0].memory_mib if reading.devices else 0
    real = FreeNode(
        name=f"instead {pool}".strip(),
        simulated=False,
        host_memory_mib=_NEVER_CLOSED,
        cpu_threads=_NEVER_CLOSED,
        total_host_memory_mib=_NEVER_CLOSED,
        total_cpu_threads=_NEVER_CLOSED,
        devices=_imagined(memory_mib, len(reading.devices), "instead"),
        pool=pool,
    )
    return [real, replace(real, name=f"{real.name} simulated", simulated=True)]


def _imagined(memory_mib: int, count: int, node: str) -> tuple[FreeDevice, ...]:
    return tuple(
        FreeDevice(id=index, node=node, index=index, memory_mib=memory_mib, free_mib=memory_mib)
        for index in range(count)
    )


def _prospect(experiment_id: int, entries: Sequence[Play], turns: Mapping[Key, Turn]) -> Prospect:
    mine = [entry for entry in entries if entry.item.experiment_id == experiment_id]
    found = [turns[entry.key] for entry in mine if entry.key in turns]
    seconds = forecasting.known_seconds()
    return Prospect(
        experiment=Experiment.objects.values_list("name", flat=True).get(pk=experiment_id),
        runs=len(mine),
        without_estimate=sum(entry.key not in seconds for entry in mine),
        never=len(mine) - len(found),
        start_seconds=min((turn.start_at for turn in found), default=None),
        end_seconds=max((turn.end_at for turn in found), default=None),
    )
