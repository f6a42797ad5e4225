"""A workload as a file: when jobs are submitted, what they need and how long they take. Pure."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

REQUIRED = ("submit_seconds", "duration_seconds", "devices", "memory_mib", "priority", "user")
OPTIONAL = ("pool",)
DEVICE_MEMORY_MIB = 80 * 1024  # of each simulated device


class WorkloadError(Exception):
    """The file cannot be replayed; the sentence names line, column and value."""


@dataclass(frozen=True, kw_only=True)
class ReplayJob:
    index: int  # in the file, from 0
    submit_seconds: float
    duration_seconds: float
    devices: int
    memory_mib: int | None  # of each device; None takes whole devices
    priority: int
    user: str
    pool: str

    @property
    def device_seconds(self) -> float:
        """Of whole devices."""
        share = 1.0 if self.memory_mib is None else self.memory_mib / DEVICE_MEMORY_MIB
        return self.devices * share * self.duration_seconds


def read(path: Path, *, devices: int) -> tuple[ReplayJob, ...]:
    """The jobs of a CSV file, for pools of so many devices. Raises WorkloadError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _parse(path, csv.reader(file, strict=True), devices)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path} cannot be read as CSV: {error}.") from error


def lower_bound(jobs: Iterable[ReplayJob], *, devices: int) -> float:
    """The largest of the pools' area bounds."""
    pools: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for job in jobs:
        pools[job.pool].append((job.submit_seconds, job.device_seconds))
    return max((area_bound(work, devices=devices) for work in pools.values()), default=0.0)


def area_bound(work: Iterable[tuple[float, float]], *, devices: int) -> float:
    """No schedule ends sooner: the largest, over times of release r, of r + the work released from r on / devices.

    `work` has when each job is released, and the device-seconds that it takes.
    """
    bound = released = 0.0
    for submit_seconds, device_seconds in sorted(work, reverse=True):
        released += device_seconds
        bound = max(bound, submit_seconds + released / devices)
    return bound


def _parse(path: Path, rows: Iterable[list[str]], devices: int) -> tuple[ReplayJob, ...]:
    lines = iter(rows)
    header = _header(path, next(lines, []))
    jobs: list[ReplayJob] = []
    for number, row in enumerate(lines, start=2):
        if row:
            jobs.append(_job(_Line(path, number, _cells(path, number, header, row)), len(jobs), devices))
    if not jobs:
        raise WorkloadError(f"{path} has no jobs below its header; give at least one line.")
    return tuple(jobs)


def _header(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    if missing := [name for name in REQUIRED if name not in names]:
        wanted = ",".join((*REQUIRED, *OPTIONAL))
        raise WorkloadError(
            f"{path}, line 1: the column {missing[0]} is missing from {','.join(names)!r}; begin with {wanted}."
        )
    for name in names:
        if name not in REQUIRED + OPTIONAL or names.count(name) > 1:
            raise WorkloadError(
                f"{path}, line 1: the column {name!r} is unknown or there twice; leave it out."
            )
    return names


def _cells(path: Path, number: int, header: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(header):
        raise WorkloadError(
            f"{path}, line {number}: {len(row)} values for {len(header)} columns ({','.join(row)!r}); give one for each."
        )
    return {name: value.strip() for name, value in zip(header, row, strict=True)}


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    cells: Mapping[str, str]

    def seconds(self, column: str) -> float:
        try:
            value = float(self.cells[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise self.refused(column, "is no number of seconds from 0 on")
        return value

    def integer(self, column: str, *, least: int | None = None, most: int | None = None) -> int:
        try:
            value = int(self.cells[column])
        except ValueError:
            raise self.refused(column, "is no whole number") from None
        if least is not None and value < least:
            raise self.refused(column, f"is less than {least}")
        if most is not None and value > most:
            raise self.refused(column, f"is more than the {most:,} that there are")
        return value

    def refused(self, column: str, why: str) -> WorkloadError:
        return WorkloadError(f"{self.path}, line {self.number}, {column}: {self.cells[column]!r} {why}.")


def _job(line: _Line, index: int, devices: int) -> ReplayJob:
    memory = line.cells["memory_mib"]
    return ReplayJob(
        index=index,
        submit_seconds=line.seconds("submit_seconds"),
        duration_seconds=line.seconds("duration_seconds"),
        devices=line.integer("devices", least=1, most=devices),
        memory_mib=line.integer("memory_mib", least=1, most=DEVICE_MEMORY_MIB) if memory else None,
        priority=line.integer("priority", least=-(2**31), most=2**31 - 1),
        user=line.cells["user"],
        pool=line.cells.get("pool", ""),
    )
