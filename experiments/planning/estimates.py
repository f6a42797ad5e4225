"""What each run, each cell and the whole plan would take, from the lab's evidence."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from experiments import estimation, run_conditions
from experiments.conditions import Conditions, Metric
from experiments.estimation import Evidence
from experiments.figures import Figure, exact, largest, no_evidence, total
from experiments.fleet import AskedRun, Fleet, Schedule, Turn
from experiments.layout import PlannedCell, PlannedRun
from experiments.run_conditions import Place
from experiments.specs import EvaluateSpec, FinetuneSpec, SimulatedSpec
from experiments.states import RunKind

NOTHING_ON_DISK = exact(0.0)
_PASSES_AT_AN_EPOCHS_END = 1


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    seconds: Figure = field(default_factory=no_evidence)
    peak_memory_mib: Figure = field(default_factory=no_evidence)  # of each device
    host_memory_mib: Figure = field(default_factory=no_evidence)
    disk_mib: Figure = field(default_factory=lambda: NOTHING_ON_DISK)  # that stays
    parts: Mapping[str, Figure] = field(default_factory=dict)
    seconds_per_step: Figure | None = None  # None for what takes no steps
    lacks: tuple[str, ...] = ()  # what a probe would measure

    def by_metric(self) -> dict[str, Figure]:
        """What is compared with what then happens, by the names that it is measured under."""
        figures = {
            estimation.SECONDS: self.seconds,
            Metric.PEAK_DEVICE_MEMORY_MIB: self.peak_memory_mib,
            Metric.PEAK_HOST_MEMORY_MIB: self.host_memory_mib,
        }
        if self.seconds_per_step is not None:
            figures[Metric.SECONDS_PER_STEP] = self.seconds_per_step
        return figures


@dataclass(frozen=True, kw_only=True)
class CellEstimate:
    """Of a cell's runs, in their order. They follow each other: seconds and disk add up, memory does not."""

    runs: tuple[RunEstimate, ...]
    seconds: Figure
    peak_memory_mib: Figure
    host_memory_mib: Figure
    disk_mib: Figure
    parts: Mapping[str, Figure]
    turn: Turn = field(default_factory=Turn)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What plans are estimated for."""

    fleet: Fleet
    configs: Mapping[str, Mapping[str, Any]]  # config.json by the model's name
    evidence: Evidence


def of_cells(cells: Sequence[PlannedCell], around: Surroundings) -> list[CellEstimate]:
    return [_of_cell(cell, around) for cell in cells]


def with_turns(
    cells: Sequence[PlannedCell],
    estimates: Sequence[CellEstimate],
    *,
    schedule: Schedule,
    priority: int,
    max_parallel: int | None,
    now: datetime,
) -> list[CellEstimate]:
    """The estimates with the start and end of each cell, given the queue."""
    asked: list[AskedRun] = []
    spans: list[range] = []
    for cell, estimate in zip(cells, estimates, strict=True):
        first = len(asked)
        asked += _asked(cell, estimate, first, priority)
        spans.append(range(first, len(asked)))
    turns = schedule.turns(runs=asked, max_parallel=max_parallel, now=now)
    return [
        _with_turn(estimate, [turns[index] for index in span])
        for estimate, span in zip(estimates, spans, strict=True)
    ]


def place_of(run: PlannedRun, fleet: Fleet) -> Place:
    target = fleet.target
    needs = run.resources
    return Place(
        device_kind=target.name if target else "",
        device_memory_mib=needs.device_memory_mib or (target.memory_mib if target else None),
        on_gpu=bool(target and target.on_gpu),
        world_size=needs.devices,
        cpu_threads=needs.cpu_threads,
        software=fleet.software,
    )


def conditions_of(run: PlannedRun, around: Surroundings) -> Conditions | None:
    """None for runs of which nothing is known by their conditions."""
    place = place_of(run, around.fleet)
    if isinstance(run.spec, FinetuneSpec):
        config = around.configs.get(run.spec.model_name, {})
        return run_conditions.of_finetune(spec=run.spec, config=config, place=place)
    if isinstance(run.spec, EvaluateSpec):
        config = around.configs.get(run.spec.model_name, {})
        return run_conditions.of_evaluation(spec=run.spec, config=config, place=place)
    return None


def of_finetune(spec: FinetuneSpec, conditions: Conditions, evidence: Evidence) -> RunEstimate:
    found = estimation.finetune(
        evidence,
        conditions,
        validations_per_epoch=_validations(spec),
        validation_rows=spec.validation.rows if spec.validation else None,
        checkpoints_kept=spec.epochs if spec.keep == "all" else 1,
    )
    return RunEstimate(
        seconds=found.seconds,
        peak_memory_mib=found.peak_device_memory_mib,
        host_memory_mib=found.peak_host_memory_mib,
        disk_mib=found.disk_mib,
        parts=found.parts,
        seconds_per_step=found.seconds_per_step,
        lacks=estimation.needs_probe(found),
    )


def _of_cell(cell: PlannedCell, around: Surroundings) -> CellEstimate:
    runs = {str(run.kind): _of_run(run, around) for run in cell.runs}
    return CellEstimate(
        runs=tuple(runs.values()),
        seconds=total({kind: run.seconds for kind, run in runs.items()}, essential=RunKind.FINETUNE),
        peak_memory_mib=largest({kind: run.peak_memory_mib for kind, run in runs.items()}),
        host_memory_mib=largest({kind: run.host_memory_mib for kind, run in runs.items()}),
        disk_mib=total({kind: run.disk_mib for kind, run in runs.items()}),
        parts=_parts(runs),
    )


def _parts(runs: Mapping[str, RunEstimate]) -> dict[str, Figure]:
    parts: dict[str, Figure] = {}
    for kind, run in runs.items():
        parts |= run.parts or {f"{kind}_seconds": run.seconds}
    return parts


def _of_run(run: PlannedRun, around: Surroundings) -> RunEstimate:
    if isinstance(run.spec, SimulatedSpec):
        return RunEstimate(seconds=exact(run.spec.duration_seconds, "as the document says"))
    conditions = conditions_of(run, around)
    if conditions is None:
        return RunEstimate()
    if isinstance(run.spec, FinetuneSpec):
        return of_finetune(run.spec, conditions, around.evidence)
    found = estimation.evaluation(around.evidence, conditions)
    return RunEstimate(
        seconds=found.seconds,
        peak_memory_mib=found.peak_device_memory_mib,
        host_memory_mib=found.peak_host_memory_mib,
    )


def _validations(spec: FinetuneSpec) -> int:
    if spec.validation is None or not spec.steps_per_epoch:
        return 0
    return spec.steps_per_epoch // spec.validation.every_n_steps + _PASSES_AT_AN_EPOCHS_END


def _asked(cell: PlannedCell, estimate: CellEstimate, first: int, priority: int) -> Iterable[AskedRun]:
    positions = {run.name: first + offset for offset, run in enumerate(cell.runs)}
    for run, of_run in zip(cell.runs, estimate.runs, strict=True):
        needs = run.resources
        yield AskedRun(
            seconds=of_run.seconds.value,
            devices=needs.devices,
            device_memory_mib=needs.device_memory_mib,
            host_memory_mib=needs.host_memory_mib,
            cpu_threads=needs.cpu_threads,
            pool=needs.pool,
            limit_seconds=needs.limit_seconds,
            priority=priority,
            simulated=isinstance(run.spec, SimulatedSpec),
            after=positions.get(run.builds_on) if run.builds_on else None,
        )


def _with_turn(estimate: CellEstimate, turns: Sequence[Turn]) -> CellEstimate:
    starts = [turn.start_at for turn in turns]
    ends = [turn.end_at for turn in turns]
    turn = Turn(
        start_at=min((start for start in starts if start is not None), default=None),
        end_at=max((end for end in ends if end is not None), default=None) if all(ends) else None,
    )
    return CellEstimate(**{**vars(estimate), "turn": turn})
