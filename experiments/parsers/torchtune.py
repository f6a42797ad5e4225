"""torchtune 0.6.1: its metrics file, its progress bar and its errors, as records."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.states import FinishReason

_METRICS_LINE = re.compile(r"^Step (\d+) \| (.*)$")
_LAST_BAR = re.compile(r"(\d+)\|(\d+)\|Loss: [^:]*:\s*\d+%\|[^|]*\|\s*(\d+)/(\d+) \[([\d:]+)<")
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
    step: int
    loss: float
    line: int  # of the metrics file, counted from 1


@dataclass(frozen=True)
class Progress:
    """The last state of an epoch's progress bar."""

    epoch: int
    steps: int
    elapsed_seconds: int


def metrics_file(output_dir: Path) -> Path | None:
    """The newest DiskLogger file of a run; a resumed run has several."""
    files = sorted((output_dir / "logs").glob("log_*.txt"))
    return files[-1] if files else None


def read_metrics(output_dir: Path) -> list[StepRecord]:
    file = metrics_file(output_dir)
    return list(parse_metrics(file.read_text(errors="replace"))) if file else []


def parse_metrics(text: str) -> Iterator[StepRecord]:
    """Records of a DiskLogger file; a last line that is still being written is left out."""
    for number, line in enumerate(text.split("\n")[:-1], 1):
        match = _METRICS_LINE.match(line)
        if match:
            yield from _record(int(match[1]), match[2], number)


def parse_progress(log: str) -> list[Progress]:
    """The last bar of each epoch, in order."""
    last: dict[int, Progress] = {}
    for match in _LAST_BAR.finditer(log):
        last[int(match[1])] = Progress(int(match[1]), int(match[3]), _seconds(match[5]))
    return [last[epoch] for epoch in sorted(last)]


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


def _record(step: int, pairs: str, line: int) -> Iterator[StepRecord]:
    values = dict(pair.split(":", 1) for pair in pairs.split() if ":" in pair)
    try:
        yield StepRecord(step, float(values["loss"]), line)
    except (KeyError, ValueError):
        return


def _seconds(clock: str) -> int:
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total
