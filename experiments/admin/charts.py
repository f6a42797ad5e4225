"""Data for charts.js, which draws with the Chart.js that Unfold brings."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from experiments.summaries import Summary

Curve = Sequence[tuple[int, float]]


def bars(summary: Summary, metric: str) -> str:
    """One bar a cell; controls are drawn apart."""
    rows = [row for row in summary.rows if row.metrics.get(metric) is not None]
    return _chart(
        "bar",
        metric,
        [
            {"label": type_, "points": [_bar(row, metric) for row in rows if row.type == type_]}
            for type_ in dict.fromkeys(row.type for row in rows)
        ],
        labels=[row.name for row in rows],
    )


def curves(by_name: Mapping[str, Curve]) -> str:
    lines = [
        {"label": name, "points": [{"x": step, "y": loss} for step, loss in curve]}
        for name, curve in by_name.items()
    ]
    return _chart("line", "loss", lines, x="step")


def over_time(unit: str, series: Mapping[str, Sequence[tuple[datetime, float | None]]]) -> str:
    """Times are shown as the lab's clocks show them, whatever zone the browser is in."""
    lines = [
        {"label": name, "points": [{"x": _wall_clock(at), "y": value} for at, value in points]}
        for name, points in series.items()
    ]
    return _chart("line", unit, lines, time=True)


def _wall_clock(at: datetime) -> int:
    """In milliseconds, to be read as if it were UTC."""
    local = timezone.localtime(at)
    return round(local.replace(tzinfo=UTC).timestamp() * 1000)


def _bar(row: Any, metric: str) -> dict[str, Any]:
    return {"x": row.name, "y": row.metrics[metric]}


def _chart(kind: str, y: str, series: list[dict[str, Any]], **more: Any) -> str:
    return json.dumps({"kind": kind, "y": y, "series": series, **more})
