"""Probes: short runs that measure what a plan has no evidence of. They are a plan of their own, approved like any."""

from dataclasses import replace
from datetime import datetime

from django.contrib.auth.models import AbstractUser

from experiments import batches
from experiments.layout import PlannedCell, PlannedRun
from experiments.models import Experiment, Proposal
from experiments.planning.estimates import CellEstimate, RunEstimate
from experiments.planning.plan import Plan
from experiments.planning.proposals import PROBE_LIMIT_SECONDS, PROBE_STEPS
from experiments.planning.storing import store_probes
from experiments.planning.workloads import Lengths, Workloads
from experiments.specs import FinetuneSpec, ProbeSpec
from experiments.states import CellType, RunKind

UNKNOWN = RunEstimate()


def plan_probes(*, proposal: Proposal, plan: Plan, user: AbstractUser | None, now: datetime) -> Experiment:
    """A draft with the probe runs that a proposal names. `plan` is of the experiment that it was made for."""
    chosen = [cell for cell in plan.cells if cell.name in proposal.cells and cell.finetune is not None]
    cells = [_probe_cell(cell, plan.found.workloads) for cell in chosen]
    return store_probes(
        of=proposal.experiment,
        cells=cells,
        estimates=[_unknown()] * len(cells),
        plan=plan,
        user=user,
        now=now,
    )


def _probe_cell(cell: PlannedCell, workloads: Workloads) -> PlannedCell:
    spec = cell.finetune
    assert spec is not None and cell.chosen is not None  # it was picked for having them
    lengths = workloads.lengths(cell.chosen)
    name = f"{cell.name}_probe"
    needs = replace(cell.runs[0].resources, limit_seconds=PROBE_LIMIT_SECONDS)
    run = PlannedRun(kind=RunKind.PROBE, name=name, spec=_probe(spec, lengths), resources=needs)
    return PlannedCell(
        name=name,
        type=CellType.PROBE,
        levels=cell.levels,
        runs=(run,),
        chosen=cell.chosen,
        seed=cell.seed,
    )


def _probe(spec: FinetuneSpec, lengths: Lengths) -> ProbeSpec:
    rows = _rows(spec, lengths)
    workload = batches.workload(
        lengths[list(rows)],
        batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        max_seq_len=spec.max_seq_len,
        packed=spec.packed,
        epochs=1,
        world_size=spec.world_size,
        shuffle=False,
    )
    short = replace(
        spec,
        epochs=1,
        max_steps_per_epoch=None,
        validation=None,
        keep="all",
        rows=len(rows),
        workload=workload,
        steps_per_epoch=workload.steps_per_epoch if workload else None,
    )
    return ProbeSpec(finetune=short, row_indices=rows)


def _rows(spec: FinetuneSpec, lengths: Lengths) -> tuple[int, ...]:
    return batches.probe_rows(
        lengths,
        batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps
        * spec.world_size,  # each rank has its own
        max_seq_len=spec.max_seq_len,
        steps=PROBE_STEPS,
        packed=spec.packed,
    )


def _unknown() -> CellEstimate:
    return CellEstimate(
        runs=(UNKNOWN,),
        seconds=UNKNOWN.seconds,
        peak_memory_mib=UNKNOWN.peak_memory_mib,
        host_memory_mib=UNKNOWN.host_memory_mib,
        disk_mib=UNKNOWN.disk_mib,
        parts={},
    )
