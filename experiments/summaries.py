"""The table at the end: one row a cell, with its state and what its evaluation measured."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import prefetch_related_objects

from experiments.models import Cell, Experiment, Run
from experiments.specs import EvaluateSpec
from experiments.states import RunKind, RunState

FORMATS = ("table", "md", "csv", "json")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Row:
    name: str
    type: str
    levels: Mapping[str, Any]
    state: str
    reason: str
    message: str
    metrics: Mapping[str, float]
    run_ids: tuple[int, ...]
    jobs: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    experiment: str
    question: str
    scorers: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def succeeded(self) -> bool:
        return bool(self.rows) and all(row.state == RunState.SUCCEEDED for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"experiment": self.experiment, "runs": [_row_json(row) for row in self.rows]}


def summarise(experiment: Experiment, *, cells: Iterable[Cell] | None = None) -> Summary:
    """Of the experiment's cells, or of some of them where the others are not wanted."""
    wanted = list(experiment.cells.all() if cells is None else cells)
    prefetch_related_objects(wanted, "runs__observations", "runs__launches")
    rows = tuple(_row(cell) for cell in wanted)
    scorers = tuple(dict.fromkeys(metric for row in rows for metric in row.metrics))
    return Summary(experiment.name, experiment.question, scorers, rows)


def render(summary: Summary, format: str) -> str:
    """The summary as "table", "md", "csv" or "json"."""
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; use one of {', '.join(FORMATS)}.")
    if format == "json":
        return json.dumps(summary.to_json(), indent=2)
    header = ["name", "type", *summary.scorers, "state", "reason", "jobs"]
    lines = [_texts(row, summary.scorers) for row in summary.rows]
    if format == "csv":
        return _csv(header, lines, numbers=summary.scorers)
    return _markdown(header, lines) if format == "md" else _table(header, lines)


def cell_state(runs: Iterable[Run]) -> tuple[str, str, str]:
    """State, reason and message of a cell: succeeded when all its runs are, else its first failed run's."""
    runs = sorted(runs, key=lambda run: run.pk)
    for state in (RunState.FAILED, RunState.CANCELLED):
        for run in runs:
            if run.state == state:
                return run.state, run.reason, run.message
    if runs and all(run.state == RunState.SUCCEEDED for run in runs):
        return RunState.SUCCEEDED, "", ""
    current = next((run for run in runs if run.state != RunState.SUCCEEDED), None)
    if current is None:
        return RunState.PLANNED, "", ""
    started = any(run.state in (RunState.RUNNING, RunState.SUCCEEDED) for run in runs)
    return (RunState.RUNNING if started else current.state), "", ""


def _row(cell: Cell) -> Row:
    runs = sorted(cell.runs.all(), key=lambda run: run.pk)
    state, reason, message = cell_state(runs)
    return Row(
        name=cell.name,
        type=cell.type,
        levels=cell.levels,
        state=str(state),
        reason=reason,
        message=message,
        metrics=_metrics(runs),
        run_ids=tuple(run.pk for run in runs),
        jobs=tuple(sorted({launch.job_id for run in runs for launch in run.launches.all()})),
    )


def _metrics(runs: list[Run]) -> dict[str, float]:
    """What the evaluation's scorers measured; the newest observation counts."""
    metrics: dict[str, float] = {}
    for run in runs:
        spec = run.parsed_spec if run.kind == RunKind.EVALUATE else None
        if isinstance(spec, EvaluateSpec) and run.state == RunState.SUCCEEDED:
            for observation in sorted(run.observations.all(), key=lambda o: o.pk):
                if observation.metric in spec.scorers:
                    metrics[observation.metric] = observation.value
    return metrics


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "type": row.type,
        "state": row.state,
        "reason": row.reason or None,
        "message": row.message or None,
        "metrics": dict(row.metrics),
        "jobs": list(row.jobs),
    }


def _texts(row: Row, scorers: Iterable[str]) -> list[str]:
    metrics = [f"{row.metrics[scorer]:.3f}" if scorer in row.metrics else "" for scorer in scorers]
    return [row.name, row.type, *metrics, row.state, row.reason, " ".join(map(str, row.jobs))]


def _csv(header: list[str], lines: list[list[str]], *, numbers: Collection[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows(
        [text if column in numbers else _no_formula(text) for column, text in zip(header, line, strict=True)]
        for line in lines
    )
    return out.getvalue()


def _no_formula(text: str) -> str:
    """A spreadsheet must not take a name for a formula; a number may well be negative."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _markdown(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *[[text.replace("|", "\\|") for text in line] for line in lines]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _table(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    rows = [header, ["-" * width for width in widths], *lines]
    return (
        "\n".join("  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        + "\n"
    )
