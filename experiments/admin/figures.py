"""Estimated figures in pages: what is shown of each, and the way to the observations that it rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.urls import reverse

from experiments.figures import error_ratio
from experiments.models import Cell, Estimate, Experiment

FIGURES = {
    "seconds": "time",
    "peak_memory_mib": "memory of each device",
    "host_memory_mib": "host memory",
    "disk_mib": "disk",
}
PARTS = {
    "startup_seconds": "start-up",
    "training_seconds": "training",
    "checkpoint_seconds": "checkpoints",
    "validation_seconds": "validation",
    "evaluate_seconds": "evaluation",
}
TOTALS = {"seconds": "time of all cells", "device_hours": "device hours", "disk_mib": "disk that stays"}
METRICS = {
    "seconds": "time",
    "seconds_per_step": "time of a step",
    "peak_device_memory_mib": "memory of each device",
    "peak_host_memory_mib": "host memory",
}


def of_row(
    experiment: Experiment, index: int, planned: Mapping[str, Any], measured: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The figures of a plan's row, in the order of its columns, beside what they then were."""
    estimates: Mapping[str, Any] = planned.get("estimates", {})
    parts = _parts(experiment, index, planned)
    return [
        {
            **estimates[name],
            "name": name,
            "url": _cell_url(experiment, index, name),
            "is_linked": _is_linked(estimates[name]),
            "title": _title(estimates[name], parts if name == "seconds" else ()),
            **_then(estimates[name]["value"], measured.get(name)),
        }
        for name in FIGURES
        if name in estimates
    ]


def of_totals(experiment: Experiment) -> list[dict[str, Any]]:
    totals: Mapping[str, Any] = experiment.totals
    return [
        {
            **totals[name],
            "name": name,
            "label": label,
            "url": reverse("admin:experiments_experiment_total", args=[experiment.pk, name]),
            "is_linked": bool(totals[name]["observations"]),
            "title": _title(totals[name]),
        }
        for name, label in TOTALS.items()
        if name in totals
    ]


def of_run(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    return [
        {
            **of_estimate(estimate),
            "url": reverse("admin:experiments_run_evidence", args=[estimate.run_id, estimate.metric]),
            "is_linked": bool(estimate.observation_ids),
            **_then(estimate.value, estimate.actual),
        }
        for estimate in estimates
    ]


def of_estimate(estimate: Estimate) -> dict[str, Any]:
    figure = {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "grade": estimate.grade,
        "n": estimate.n,
        "observations": estimate.observation_ids,
        "note": estimate.note,
        "name": estimate.metric,
        "label": METRICS.get(estimate.metric, estimate.metric),
    }
    return {**figure, "title": _title(figure)}


def of_cell(cell: Cell, name: str) -> dict[str, Any] | None:
    """One figure of a cell, or one part of its time; None for a name that no figure has."""
    planned: Mapping[str, Any] = cell.planned
    known = {**planned.get("parts", {}), **planned.get("estimates", {})}
    if name not in known:
        return None
    return {
        **known[name],
        "name": name,
        "label": FIGURES.get(name) or PARTS.get(name, name),
        "parts": _parts(cell.experiment, cell.index, planned) if name == "seconds" else [],
    }


def _parts(experiment: Experiment, index: int, planned: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **part,
            "name": name,
            "label": PARTS.get(name, name),
            "url": _cell_url(experiment, index, name),
        }
        for name, part in planned.get("parts", {}).items()
    ]


def _cell_url(experiment: Experiment, index: int, name: str) -> str:
    return reverse("admin:experiments_experiment_evidence", args=[experiment.pk, index, name])


def _is_linked(figure: Mapping[str, Any]) -> bool:
    """To its observations, or to the reasons why there are none; what is computed needs neither."""
    return bool(figure["observations"]) or figure["value"] is None


def _then(estimated: float | None, actual: float | None) -> dict[str, Any]:
    return {"actual": actual, "error": error_ratio(estimated, actual)}


def _title(figure: Mapping[str, Any], parts: Sequence[Mapping[str, Any]] = ()) -> str:
    """What the tooltip says, a line each."""
    lines = [_graded(figure), figure.get("note", "")]
    for part in parts:
        value = "no evidence" if part["value"] is None else f"{part['value']:,.1f} s ({part['grade']})"
        lines.append(f"{part['label']}: {value}")
    return "\n".join(filter(None, lines))


def _graded(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "no evidence"
    if not figure["observations"]:
        return "computed, not estimated"
    return f"{figure['grade']}, from {figure['n']} run{'s' if figure['n'] != 1 else ''}"
