"""Which queued runs start together, and which evaluations wait so that adapters share an engine boot.

An evaluation is held while a fine-tune of the same base model in the same experiment runs or could start now, at
most for the experiment's hold; evaluations with the same engine key then start as one job. Pure, as allocation is.
"""

from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import cast

from experiments.states import RunKind
from scheduler.allocation import Decision, QueueItem

HELD = "is held so that it shares an engine with the other evaluations of its base model, while a fine-tune of it {}"


@dataclass(frozen=True, kw_only=True)
class EligibleRun:
    """A queued run that waits for nothing but devices."""

    run_id: int
    kind: RunKind
    experiment_id: int
    base_model_id: int | None
    engine_key: str
    turn: float  # sorts the queue: unix seconds, earlier by its priority
    hold_until: float  # unix seconds
    devices: int
    device_memory_mib: int | None
    host_memory_mib: int
    cpu_threads: int
    pool: str
    limit_seconds: int
    avoided_node: str
    goes_alone: bool = False  # engines broke down on it


BaseOfExperiment = tuple[int, int | None]  # experiment, base model


def decide(
    *,
    runs: Iterable[EligibleRun],
    training: frozenset[BaseOfExperiment],
    now: float,
    place: Callable[[list[QueueItem]], Decision],
) -> Decision:
    """Place the runs. `training` has the base models that a running fine-tune of an experiment trains."""
    evaluations = [run for run in runs if run.kind is RunKind.EVALUATE]
    others = [item_of([run]) for run in runs if run.kind is not RunKind.EVALUATE]
    if not evaluations:
        return place(others)
    bases = {
        run.run_id: (run.experiment_id, run.base_model_id) for run in runs if run.kind is RunKind.FINETUNE
    }
    started = {bases[i] for p in place(others).placements for i in p.item.run_ids if i in bases}
    held = {run.run_id: reason for run in evaluations if (reason := _held(run, training, started, now))}
    free = [run for run in evaluations if run.run_id not in held]
    decision = place(others + [item_of(group) for group in _sharing(free)])
    waiting = ChainMap(held, cast(MutableMapping[int, str], decision.waiting))  # only read, and lazily
    return Decision(decision.placements, waiting, decision.reserved)


def _held(
    run: EligibleRun, training: frozenset[BaseOfExperiment], started: set[BaseOfExperiment], now: float
) -> str:
    base = (run.experiment_id, run.base_model_id)
    if run.goes_alone or now >= run.hold_until:
        return ""
    if base in training:
        return HELD.format("runs")
    return HELD.format("can start") if base in started else ""


def _sharing(evaluations: Iterable[EligibleRun]) -> list[list[EligibleRun]]:
    groups: dict[tuple[object, ...], list[EligibleRun]] = defaultdict(list)
    for run in evaluations:
        needs = (run.devices, run.device_memory_mib, run.host_memory_mib, run.cpu_threads, run.pool)
        apart = run.run_id if run.goes_alone else None
        groups[run.experiment_id, run.engine_key, apart, *needs].append(run)
    return list(groups.values())


def item_of(group: Sequence[EligibleRun]) -> QueueItem:
    """A group has the turn of the last of its runs, and takes as long as all of them."""
    first = group[0]
    return QueueItem(
        run_ids=tuple(run.run_id for run in group),
        experiment_id=first.experiment_id,
        order=(max(run.turn for run in group), min(run.run_id for run in group)),
        devices=first.devices,
        device_memory_mib=first.device_memory_mib,
        host_memory_mib=first.host_memory_mib,
        cpu_threads=first.cpu_threads,
        simulated=first.kind is RunKind.SIMULATED,
        pool=first.pool,
        limit_seconds=sum(run.limit_seconds for run in group),
        avoided_node=next((run.avoided_node for run in group if run.avoided_node), ""),
    )
