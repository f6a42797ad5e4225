"""Data for charts.js, which draws with the Chart.js that Unfold brings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

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


def _bar(row: Any, metric: str) -> dict[str, Any]:
    return {"x": row.name, "y": row.metrics[metric]}


def _chart(kind: str, y: str, series: list[dict[str, Any]], **more: Any) -> str:
    return json.dumps({"kind": kind, "y": y, "series": series, **more})
