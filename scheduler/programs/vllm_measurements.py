"""What an evaluation measured: its scores, its time and its memory."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.conditions import Metric
from experiments.specs import Measurement
from scheduler.programs.base import PlacedJob

REQUEST = "request.json"
ENGINE = "engine.json"


def measurements(
    job: PlacedJob, run_id: int, predictions: int, result: Mapping[str, Any]
) -> tuple[Measurement, ...]:
    """`result` is the run's result.json. Raises KeyError, TypeError or ValueError for one that makes no sense."""
    source = str(job.paths.result(run_id) / "result.json")
    scores = [
        Measurement(metric=metric, value=value, unit="share", source_file=source)
        for metric, value in result["metrics"].items()
    ]
    times = _times(predictions, float(result["seconds"]), source)
    return (*scores, *times, *_memory(job, result, source), *_engine_startup(job, run_id))


def _times(predictions: int, seconds: float, source: str) -> Iterator[Measurement]:
    yield Measurement(metric="evaluation_seconds", value=seconds, unit="s", source_file=source)
    if predictions:
        pace = seconds / predictions
        yield Measurement(metric=Metric.SECONDS_PER_PREDICTION, value=pace, unit="s", source_file=source)


def _memory(job: PlacedJob, result: Mapping[str, Any], source: str) -> Iterator[Measurement]:
    """The engine's peak so far. On a CPU the engine is one process; on a GPU it is not known here."""
    peak = result.get("host_peak_mib")
    if peak is None or job.on_gpu:
        return
    for metric in (Metric.PEAK_HOST_MEMORY_MIB, Metric.PEAK_DEVICE_MEMORY_MIB):
        yield Measurement(metric=metric, value=float(peak), unit="MiB", source_file=source)


def _engine_startup(job: PlacedJob, run_id: int) -> Iterator[Measurement]:
    """Of the runs that share an engine, the first of the request has it: it booted once."""
    engine = job.paths.directory / ENGINE
    try:
        first = json.loads((job.paths.directory / REQUEST).read_text())["entries"][0]["run_id"]
        seconds = float(json.loads(engine.read_text())["boot_seconds"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    if run_id == first:
        metric = Metric.ENGINE_STARTUP_SECONDS
        yield Measurement(metric=metric, value=seconds, unit="s", source_file=str(engine))
