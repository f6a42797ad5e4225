"""torchtune 0.6.1: its metrics file and its errors, as records."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.states import FinishReason

TAKEN_OVER = "taken_over.txt"  # beside the metrics file
_METRICS_LINE = re.compile(r"^Step (\d+) \| (.*)$")
_DIVERGED = re.compile(r"^Step (\d+) \| (?:.* )?loss:[+-]?(?:nan|inf)\b", re.MULTILINE | re.IGNORECASE)
_AFTER_INIT = re.compile(r"Memory stats after model init:\s+GPU peak memory a[a-z]+: ([\d.]+) GiB")
_ERRORS: tuple[tuple[re.Pattern[str], FinishReason], ...] = (
    (
        re.compile(r"DefaultCPUAllocator: can't allocate memory|CUDA out of memory|OutOfMemoryError"),
        FinishReason.OUT_OF_MEMORY,
    ),
    (
        re.compile(
            r"InstantiationError|ConfigAttributeError|unexpected keyword argument|not supported in this recipe"
        ),
        FinishReason.CONFIG_INVALID,
    ),
    (
        re.compile(r"No file with name: |size mismatch for |safetensors.*(Error|rror while)"),
        FinishReason.MODEL_MISSING,
    ),
    (
        re.compile(r"FileNotFoundError|DatasetGenerationError|JSONDecodeError|KeyError: '(input|output)'"),
        FinishReason.DATA_INVALID,
    ),
)
_ERROR_LINE = re.compile(r"^[\w.]*(Error|Exception)\b.*$", re.MULTILINE)


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step. What its line does not say, or says as no finite number, is None."""

    step: int
    loss: float
    line: int  # of the metrics file, counted from 1
    at: float | None = None  # unix seconds, when the step had ended; only step_clock.py writes it
    host_peak_mib: float | None = None  # of the process, so far
    peak_memory_active_gib: float | None = None  # of the GPU, since the line before
    peak_memory_alloc_gib: float | None = None
    peak_memory_reserved_gib: float | None = None


@dataclass(frozen=True)
class ValidationRecord:
    step: int  # the optimizer step after which it was validated
    val_loss: float
    line: int
    at: float | None = None


@dataclass(frozen=True)
class Metrics:
    """What a metrics file holds, and what a run that was gone on with took over from an earlier job."""

    path: Path
    steps: tuple[StepRecord, ...]
    validations: tuple[ValidationRecord, ...]
    diverged_at: int | None  # the first step whose loss is no number; such steps are not among the others
    earlier_steps: tuple[StepRecord, ...] = ()
    earlier_validations: tuple[ValidationRecord, ...] = ()

    @property
    def all_steps(self) -> tuple[StepRecord, ...]:
        return self.earlier_steps + self.steps

    @property
    def all_validations(self) -> tuple[ValidationRecord, ...]:
        return self.earlier_validations + self.validations


def metrics_file(output_dir: Path) -> Path | None:
    """The newest DiskLogger file of a run."""
    files = sorted((output_dir / "logs").glob("log_*.txt"))
    return files[-1] if files else None


def read(output_dir: Path) -> Metrics | None:
    """The newest metrics file of a run; None where there is none."""
    path = metrics_file(output_dir)
    if path is None:
        return None
    text, earlier = path.read_text(errors="replace"), _taken_over(output_dir)
    diverged = _DIVERGED.search(earlier + text)
    return Metrics(
        path=path,
        steps=tuple(parse_metrics(text)),
        validations=tuple(parse_validations(text)),
        diverged_at=int(diverged[1]) if diverged else None,
        earlier_steps=tuple(parse_metrics(earlier)),
        earlier_validations=tuple(parse_validations(earlier)),
    )


def _taken_over(output_dir: Path) -> str:
    """Lines of the epochs that an earlier job took; see scheduler/runtimes/torchtune/takeover.py."""
    try:
        return (output_dir / "logs" / TAKEN_OVER).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def read_metrics(output_dir: Path) -> list[StepRecord]:
    found = read(output_dir)
    return list(found.all_steps) if found else []


def parse_metrics(text: str) -> Iterator[StepRecord]:
    """Steps of a DiskLogger file; a last line that is still being written is left out."""
    for number, step, values in _lines(text):
        if "loss" in values:
            yield StepRecord(
                step=step,
                loss=values["loss"],
                line=number,
                at=values.get("at"),
                host_peak_mib=values.get("host_peak_mib"),
                peak_memory_active_gib=values.get("peak_memory_active"),
                peak_memory_alloc_gib=values.get("peak_memory_alloc"),
                peak_memory_reserved_gib=values.get("peak_memory_reserved"),
            )


def parse_validations(text: str) -> Iterator[ValidationRecord]:
    """Validation losses of a DiskLogger file, as our validating recipes write them."""
    for number, step, values in _lines(text):
        if "val_loss" in values:
            yield ValidationRecord(step, values["val_loss"], number, values.get("at"))


def parse_memory_after_init_mib(log: str) -> float | None:
    """What the weights take on a GPU; never a peak of the training."""
    match = _AFTER_INIT.search(log)
    return float(match[1]) * 1024 if match else None


def classify_error(log: str) -> tuple[FinishReason, str] | None:
    """The reason that the end of a failed run's log gives, with its last error line."""
    lines = [match[0] for match in _ERROR_LINE.finditer(log)]
    for pattern, reason in _ERRORS:
        found = pattern.search(log)
        if found:
            line = next((line for line in reversed(lines) if pattern.search(line)), _line_of(found))
            return reason, line
    return (FinishReason.EXIT_CODE, lines[-1]) if lines else None


def _line_of(found: re.Match[str]) -> str:
    start = found.string.rfind("\n", 0, found.start()) + 1
    return found.string[start:].partition("\n")[0].strip()


def _lines(text: str) -> Iterator[tuple[int, int, Mapping[str, float]]]:
    """Number, step and values of each whole line."""
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if match := _METRICS_LINE.match(line):
            yield number, int(match[1]), dict(_values(match[2]))


def _values(pairs: str) -> Iterator[tuple[str, float]]:
    """Those that are finite numbers."""
    for pair in pairs.split():
        name, _, text = pair.partition(":")
        try:
            value = float(text)
        except ValueError:
            continue
        if math.isfinite(value):
            yield name, value
