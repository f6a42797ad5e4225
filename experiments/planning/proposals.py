"""What evidence speaks for, beside what was asked: another batch size, another number of devices, a probe.

Nothing is adopted before a person accepts it, one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments import estimation
from experiments.conditions import Conditions
from experiments.documents import ExperimentDocument
from experiments.estimation import Advice
from experiments.figures import Figure
from experiments.layout import PlannedCell, PlannedRun
from experiments.models import Proposal
from experiments.planning.estimates import CellEstimate, RunEstimate, Surroundings, conditions_of
from experiments.planning.workloads import Workloads
from experiments.specs import FinetuneSpec

PROBE_STEPS = 12
PROBE_LIMIT_SECONDS = 1800
HEADROOM = 0.1


@dataclass(frozen=True, kw_only=True)
class Proposed:
    kind: Proposal.Kind
    key: str
    title: str
    reason: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[str, ...] = ()
    observations: tuple[int, ...] = ()

    def to_json(self, state: str = Proposal.State.OPEN) -> dict[str, Any]:
        return {
            "key": self.key,
            "kind": str(self.kind),
            "title": self.title,
            "reason": self.reason,
            "changes": dict(self.changes),
            "cells": list(self.cells),
            "observations": list(self.observations),
            "state": str(state),
        }


def propose(
    document: ExperimentDocument,
    cells: Sequence[PlannedCell],
    estimates: Sequence[CellEstimate],
    *,
    around: Surroundings,
    workloads: Workloads,
) -> list[Proposed]:
    finetunes = [
        _Finetune(cell, cell.runs[0], cell.finetune, estimate)
        for cell, estimate in zip(cells, estimates, strict=True)
        if cell.finetune is not None
    ]
    by_model: dict[str, list[_Finetune]] = {}
    for finetune in finetunes:
        by_model.setdefault(finetune.spec.model_name, []).append(finetune)
    return [
        proposal
        for model, group in by_model.items()
        for proposal in (
            *_batch_size(document, model, group, around, workloads),
            *_devices(document, model, group, around),
            *_probe(model, group, around),
        )
    ]


@dataclass(frozen=True)
class _Finetune:
    cell: PlannedCell
    run: PlannedRun
    spec: FinetuneSpec
    estimate: CellEstimate

    @property
    def of_run(self) -> RunEstimate:
        return self.estimate.runs[0]


def _batch_size(
    document: ExperimentDocument,
    model: str,
    group: Sequence[_Finetune],
    around: Surroundings,
    workloads: Workloads,
) -> Iterator[Proposed]:
    """One for all cells of a model: the smallest of what each of them could take."""
    target = around.fleet.target
    if target is None or not target.on_gpu or {"batch_size"} & _varied(document):
        return
    advices = [_advice(finetune, around, workloads, target.memory_mib) for finetune in group]
    least = min((advice for advice in advices if advice), key=lambda advice: advice.batch_size, default=None)
    if least is None or not all(advices):
        return
    yield Proposed(
        kind=Proposal.Kind.CHANGE,
        key=f"batch_size/{model}",
        title=f"{model}: batch size {least.batch_size} instead of {group[0].spec.batch_size}",
        reason=least.reason,
        changes={
            "fixed.batch_size": {model: least.batch_size},
            "fixed.gradient_accumulation_steps": {model: least.gradient_accumulation_steps},
        },
        cells=tuple(finetune.cell.name for finetune in group),
        observations=tuple(least.observations),
    )


def _advice(
    finetune: _Finetune, around: Surroundings, workloads: Workloads, memory_mib: int
) -> Advice | None:
    spec, chosen, settings = finetune.spec, finetune.cell.chosen, finetune.cell.settings
    assert chosen is not None and settings is not None  # of a fine-tune
    effective = spec.batch_size * spec.gradient_accumulation_steps

    def conditions(batch_size: int) -> Conditions:
        accumulation = max(1, effective // batch_size)
        other = settings.model_copy(
            update={"batch_size": batch_size, "gradient_accumulation_steps": accumulation}
        )
        workload = workloads.of_settings(other, chosen, spec.world_size)
        changed = replace(
            spec, batch_size=batch_size, gradient_accumulation_steps=accumulation, workload=workload
        )
        run = replace(finetune.run, spec=changed)
        found = conditions_of(run, around)
        assert found is not None  # it is a fine-tune
        return found

    return estimation.advise_batch_size(
        around.evidence,
        conditions,
        device_memory_mib=memory_mib,
        headroom=HEADROOM,
        batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        rows=spec.rows,
    )


def _devices(
    document: ExperimentDocument, model: str, group: Sequence[_Finetune], around: Surroundings
) -> Iterator[Proposed]:
    """More devices where one is known to be too small."""
    target = around.fleet.target
    if target is None or not target.on_gpu:
        return
    asked = document.resources.devices
    largest = max(group, key=lambda finetune: finetune.of_run.peak_memory_mib.value or 0.0)
    peak = largest.of_run.peak_memory_mib
    if peak.value is None or asked >= target.most_on_a_node:
        return
    room = target.memory_mib * (1 - HEADROOM)
    if _upper(peak) <= room or largest.spec.batch_size > 1:
        return
    yield Proposed(
        kind=Proposal.Kind.CHANGE,
        key=f"devices/{model}",
        title=f"{model}: {asked + 1} devices instead of {asked}",
        reason=(
            f"{largest.cell.name} needs up to {_upper(peak):,.0f} MiB on each device at batch size 1, "
            f"and a {target.name} has {room:,.0f} MiB with head-room. A distributed recipe divides the weights; "
            f"what it then takes has no evidence yet. All cells get as many, and the effective batch grows with them."
        ),
        changes={"resources.devices": asked + 1},
        cells=tuple(finetune.cell.name for finetune in group),
        observations=peak.observations,
    )


def _probe(model: str, group: Sequence[_Finetune], around: Surroundings) -> Iterator[Proposed]:
    """A short run of each kind of cell that lacks evidence: the largest rank of those that differ only in it."""
    lacking = [finetune for finetune in group if finetune.of_run.lacks]
    if not lacking:
        return
    chosen: dict[tuple[Any, ...], _Finetune] = {}
    for finetune in lacking:
        spec = finetune.spec
        batch = (spec.batch_size, spec.gradient_accumulation_steps, spec.max_seq_len, spec.packed)
        kind = (spec.recipe, spec.method, *batch, finetune.cell.chosen)
        held = chosen.get(kind)
        if held is None or held.spec.lora_rank < spec.lora_rank:
            chosen[kind] = finetune
    devices = max(finetune.run.resources.devices for finetune in chosen.values())
    minutes = PROBE_LIMIT_SECONDS // 60 * len(chosen)
    names = ", ".join(finetune.cell.name for finetune in chosen.values())
    yield Proposed(
        kind=Proposal.Kind.PROBE,
        key=f"probe/{model}",
        title=f"{model}: {len(chosen)} probe run{'s' if len(chosen) > 1 else ''}",
        reason=(
            f"There is no evidence of the time or the memory of {len(lacking)} of its cells. A probe takes "
            f"{PROBE_STEPS} optimizer steps, the longest batch among them, on {devices} device"
            f"{'s' if devices > 1 else ''}, and at most {minutes} minutes in all ({names})."
        ),
        cells=tuple(finetune.cell.name for finetune in chosen.values()),
    )


def _varied(document: ExperimentDocument) -> set[str]:
    return {*document.factors, *(key for cell in document.cells for key in cell)}


def _upper(figure: Figure) -> float:
    return figure.high if figure.high is not None else figure.value or 0.0
