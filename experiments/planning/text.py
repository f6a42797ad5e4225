"""A plan for a terminal: the table, what it takes, and what is said beside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COLUMNS = ("name", "type", "recipe", "steps", "time", "memory", "disk", "evidence", "limit", "--time")


def plan_as_text(plan: Mapping[str, Any]) -> str:
    rows = [_COLUMNS, *(_cells(row) for row in plan["runs"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    table = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*(line.rstrip() for line in table), "", *_below(plan)])


def seconds_as_text(value: float | None) -> str:
    """41 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return "no evidence"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    figures = row["estimates"]
    seconds = figures["seconds"]
    return (
        row["name"],
        row["type"],
        row["recipe"] or "-",
        "-" if row["steps"] is None else str(row["steps"]),
        _bounded(seconds, seconds_as_text),
        _bounded(figures["peak_memory_mib"], _mib),
        _mib(figures["disk_mib"]["value"]),
        _evidence(seconds),
        seconds_as_text(row["limit_seconds"]),
        row["slurm_time"] or "-",
    )


def _evidence(figure: Mapping[str, Any]) -> str:
    """Its grade, and which parts of it are not in the figure."""
    if figure["value"] is None:
        return "none"
    lacking = [part for part in figure["note"].split("; ") if part.endswith(": no evidence")]
    return "; ".join([f"{figure['grade']}, n={figure['n']}", *lacking])


def _bounded(figure: Mapping[str, Any], as_text: Any) -> str:
    value: str = as_text(figure["value"])
    if figure["low"] is None or figure["high"] is None or figure["low"] == figure["high"]:
        return value
    return f"{value} ({as_text(figure['low'])} to {as_text(figure['high'])})"


def _mib(value: float | None) -> str:
    return "no evidence" if value is None else f"{value:,.0f} MiB"


def _below(plan: Mapping[str, Any]) -> Iterator[str]:
    totals = plan["totals"]
    hours = totals["device_hours"]
    taken = "no evidence" if hours["value"] is None else f"{hours['value']:.2f}"
    lacking = f" ({hours['note']})" if hours["note"] else ""
    yield f"{totals['cells']} cells, {totals['runs']} runs, {totals['steps']:,} steps; device hours: {taken}{lacking}"
    if totals["end_at"]:
        yield f"Queued now it would end at {totals['end_at']}."
    yield from plan["warnings"]
    for question in plan["questions"]:
        yield f"Question: {question['text']} Answer with {question['key']}=..."
    for proposal in plan["proposals"]:
        if proposal["state"] == "open":
            yield f"Proposal {proposal['key']}: {proposal['title']}. {proposal['reason']}"
