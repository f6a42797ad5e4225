"""What people read of a run while it lives and afterwards."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from django.conf import settings

from experiments.beneath import open_beneath
from experiments.models import Estimate, Run
from experiments.parsers import torchtune

TAIL_BYTES = 64 * 1024
# Of an estimate of a run: the figure of its cell, and how those of a cell's runs, which follow each other, join.
_OF_CELLS: Mapping[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "seconds": ("seconds", sum),
    "peak_device_memory_mib": ("peak_memory_mib", max),
    "peak_host_memory_mib": ("host_memory_mib", max),
}


def log_tail(run: Run, lines: int = 60) -> str:
    """The last lines of a run's log, or nothing where there is none yet, or a link in its place."""
    return file_tail(run.log_path, lines) if run.log_path else ""


def log_from(run: Run, position: int) -> bytes:
    """What a run's log has from a position on."""
    try:
        with open_beneath(settings.RUN_ROOT, run.log_path or Path()) as file:
            file.seek(position)
            return file.read()
    except (OSError, ValueError):
        return b""


def file_tail(path: Path, lines: int) -> str:
    try:
        with open_beneath(settings.RUN_ROOT, path) as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    return "\n".join(last_states(text)[-lines:])


def last_states(text: str) -> list[str]:
    """Lines as a terminal would show them: of a progress bar, only its last state."""
    return [
        line.rstrip("\r").rsplit("\r", 1)[-1].replace("\x1b[A", "")
        for line in text.split("\n")
        if line.strip()
    ]


def loss_curve(run: Run) -> list[tuple[int, float]]:
    """(step, loss) of a fine-tune, as far as it has come."""
    if not run.directory:
        return []
    return [(record.step, record.loss) for record in torchtune.read_metrics(Path(run.directory) / "output")]


def measured(cells: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
    """What the figures of cells then were, by the cell's name; `cells` are the ids of their runs.

    A figure is left out until it is known of all runs of the cell.
    """
    ids = [pk for run_ids in cells.values() for pk in run_ids]
    actual: defaultdict[str, dict[int, float]] = defaultdict(dict)
    compared = Estimate.objects.filter(run__in=ids, actual__isnull=False, metric__in=_OF_CELLS)
    for run_id, metric, value in compared.values_list("run_id", "metric", "actual"):
        actual[metric][run_id] = value or 0.0
    return {
        name: {
            figure: join(actual[metric][pk] for pk in run_ids)
            for metric, (figure, join) in _OF_CELLS.items()
            if run_ids and all(pk in actual[metric] for pk in run_ids)
        }
        for name, run_ids in cells.items()
    }
