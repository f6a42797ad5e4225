"""A plan as JSON: the same whether it was just made or is read from its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from experiments.documents import InvalidDocument
from experiments.durations import slurm_time
from experiments.figures import Figure, total
from experiments.layout import PlannedCell
from experiments.planning.estimates import CellEstimate
from experiments.specs import FinetuneSpec
from experiments.states import CellType

SECONDS_AN_HOUR = 3600


def cell_row(cell: PlannedCell, estimate: CellEstimate) -> dict[str, Any]:
    finetune = cell.finetune
    return {
        "name": cell.name,
        "type": str(cell.type),
        "model": cell.model,
        "dataset": cell.dataset,
        "recipe": finetune.recipe if finetune else None,
        "steps": _steps(finetune),
        "devices": max(run.resources.devices for run in cell.runs),
        "limit_seconds": sum(run.resources.limit_seconds for run in cell.runs),
        "slurm_time": slurm_time(estimate.seconds),
        "start_at": _iso(estimate.turn.start_at),
        "end_at": _iso(estimate.turn.end_at),
        "estimates": {
            "seconds": estimate.seconds.to_json(),
            "peak_memory_mib": estimate.peak_memory_mib.to_json(),
            "host_memory_mib": estimate.host_memory_mib.to_json(),
            "disk_mib": estimate.disk_mib.to_json(),
        },
        "parts": {name: figure.to_json() for name, figure in estimate.parts.items()},
    }


def totals(cells: Sequence[PlannedCell], estimates: Sequence[CellEstimate]) -> dict[str, Any]:
    """What the whole plan takes. Hours of a device are its runs' seconds times the devices that they hold."""
    seconds = {cell.name: estimate.seconds for cell, estimate in zip(cells, estimates, strict=True)}
    hours = {
        f"{cell.name}/{run.kind}": _hours(of_run.seconds, run.resources.devices)
        for cell, estimate in zip(cells, estimates, strict=True)
        for run, of_run in zip(cell.runs, estimate.runs, strict=True)
    }
    ends = [estimate.turn.end_at for estimate in estimates]
    return {
        "cells": len(cells),
        "runs": sum(len(cell.runs) for cell in cells),
        "controls": sum(cell.type == CellType.CONTROL for cell in cells),
        "steps": sum(_steps(cell.finetune) or 0 for cell in cells),
        "seconds": _total(seconds).to_json(),
        "device_hours": _total(hours).to_json(),
        "disk_mib": _total(
            {cell.name: estimate.disk_mib for cell, estimate in zip(cells, estimates, strict=True)}
        ).to_json(),
        "end_at": _iso(max((end for end in ends if end), default=None)) if all(ends) else None,
    }


def plan_json(
    *,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    totals: Mapping[str, Any],
    proposals: Sequence[Mapping[str, Any]],
    questions: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
) -> dict[str, Any]:
    return {
        "experiment": name,
        "runs": list(rows),
        "totals": dict(totals),
        "proposals": list(proposals),
        "questions": list(questions),
        "warnings": list(warnings),
        "errors": [],
    }


def refused_json(invalid: InvalidDocument) -> dict[str, Any]:
    """In the shape of a plan, for a document that cannot be planned."""
    nothing = plan_json(name="", rows=[], totals={}, proposals=[], questions=[], warnings=[])
    return {**nothing, "experiment": None, "errors": [asdict(problem) for problem in invalid.problems]}


def _steps(finetune: FinetuneSpec | None) -> int | None:
    if finetune is None or finetune.steps_per_epoch is None:
        return None
    return finetune.epochs * finetune.steps_per_epoch


def _hours(seconds: Figure, devices: int) -> Figure:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * devices / SECONDS_AN_HOUR

    fields = {name: scaled(getattr(seconds, name)) for name in ("value", "low", "high")}
    return Figure(**{**vars(seconds), **fields})


def _total(parts: Mapping[str, Figure]) -> Figure:
    """A sum over many cells; which of them lack evidence is on their own rows."""
    whole = total(parts)
    lacking = sum(part.value is None for part in parts.values())
    return Figure(**{**vars(whole), "note": f"{lacking} of {len(parts)} have no evidence" if lacking else ""})


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
