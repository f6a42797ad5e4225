"""What a program is: it prepares a job's command from specs, and verifies what the job left behind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from experiments.conditions import Metric
from experiments.specs import Measurement, Outcome, RunSpec
from experiments.states import REASONS, FinishReason
from scheduler.launchers.base import Ending, ExitRecord
from scheduler.paths import JobPaths

LOG_PART_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the node gives to every program."""

    ml_python: Path
    cache_root: Path
    grace_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class GrantedDevice:
    kind: str  # gpu, cpu or simulated
    uuid: str
    model_name: str
    memory_mib: int  # granted of it


@dataclass(frozen=True, kw_only=True)
class CarriedRun:
    run_id: int
    name: str
    spec: RunSpec
    cancelled: bool = False
    builds_on_spec: RunSpec | None = None
    builds_on_directory: Path | None = None
    earlier_directories: tuple[Path, ...] = ()  # of a fine-tune's earlier jobs, the newest first


@dataclass(frozen=True, kw_only=True)
class PlacedJob:
    """A job as its program sees it."""

    job_id: int
    title: str
    paths: JobPaths
    runs: tuple[CarriedRun, ...]
    devices: tuple[GrantedDevice, ...]
    cpu_threads: int

    @property
    def on_gpu(self) -> bool:
        return any(device.kind == "gpu" for device in self.devices)


@dataclass(frozen=True, kw_only=True)
class Command:
    """An argument list, its environment, and the files that it reads."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[Path, str] = field(default_factory=dict)
    executables: frozenset[Path] = frozenset()  # of the files
    has_files: bool = True  # whether it needs a directory of its own


@dataclass(frozen=True, kw_only=True)
class Verdict:
    outcome: Outcome
    measurements: tuple[Measurement, ...] = ()


class Program(Protocol):
    def prepare(self, job: PlacedJob, surroundings: Surroundings) -> Command:
        """Raises OSError, ValueError or KeyError for what is missing or wrong on disk."""
        ...

    def settled(self, job: PlacedJob) -> Mapping[int, Verdict]:
        """Verdicts on runs of a living job whose own results are durable already."""
        ...

    def verify(self, job: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
        """A verdict for each of the job's runs, found in its files."""
        ...

    def lack(self, run: CarriedRun, paths: JobPaths) -> str:
        """What is not there any more of the results of a run that succeeded; empty when it is whole. Changes nothing."""
        ...


def succeeded(measurements: tuple[Measurement, ...] = ()) -> Verdict:
    return Verdict(outcome=Outcome(succeeded=True), measurements=measurements)


def failed(reason: FinishReason, detail: str = "", measurements: tuple[Measurement, ...] = ()) -> Verdict:
    """The reason's sentence, and what was found."""
    message = f"{REASONS[reason].sentence} {detail}".strip()
    return Verdict(
        outcome=Outcome(succeeded=False, reason=reason, message=message), measurements=measurements
    )


def ended_by_us(run: CarriedRun, record: ExitRecord) -> Verdict | None:
    """The verdict on a run whose tree did not end of itself; None where it did."""
    if record.ending is Ending.EXITED:
        return None
    if run.cancelled:
        return failed(FinishReason.CANCELLED_BY_USER)
    reasons = {
        Ending.TIMED_OUT: FinishReason.TIMED_OUT,
        Ending.CANCELLED: FinishReason.STOPPED,
        Ending.SUPERVISOR_LOST: FinishReason.SUPERVISOR_LOST,
        Ending.NODE_LOST: FinishReason.NODE_LOST,
        Ending.LAUNCH_FAILED: FinishReason.LAUNCH_FAILED,
    }
    return failed(reasons[record.ending], record.message)


def killed(record: ExitRecord) -> Verdict | None:
    """The verdict on a tree that a foreign signal ended; None where there was none."""
    if record.signal is None:
        return None
    return failed(FinishReason.KILLED, f"Signal {record.signal}.")


def usage(record: ExitRecord, source_file: Path, *, is_bound: bool = False) -> tuple[Measurement, ...]:
    """What the supervisor measured of the whole tree; a bound where the tree would have gone on and taken more."""
    source = str(source_file)
    seconds = record.ended_at - record.started_at
    measured = [
        Measurement(metric=Metric.JOB_SECONDS, value=seconds, unit="s", source_file=source, is_bound=is_bound)
    ]
    if record.peak_rss_mib is not None:
        measured.append(
            Measurement(
                metric=Metric.PEAK_HOST_MEMORY_MIB,
                value=float(record.peak_rss_mib),
                unit="MiB",
                source_file=source,
                is_bound=is_bound,
            )
        )
    return tuple(measured)


def read_tail(path: Path) -> str:
    """The end of a log, as far as an error can be searched in it."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_PART_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def read_head(path: Path) -> str:
    """The beginning of a log, which a long progress bar pushes out of its end."""
    try:
        with path.open("rb") as file:
            return file.read(LOG_PART_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
