"""What a replay shows, from what was recorded of each launch. Pure: nothing is assumed to have gone well."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from labmgr.replay.workload import DEVICE_MEMORY_MIB, ReplayJob, lower_bound

CLOCK_SECONDS = 0.001  # what two readings of a clock may differ by


@dataclass(frozen=True, kw_only=True)
class RecordedLaunch:
    """A launch as it was recorded; seconds count from the moment at which the replay began."""

    index: int  # of its job in the workload
    started: float | None
    ended: float | None
    succeeded: bool
    pool: str
    devices: tuple[int, ...]
    memory_mib: int  # of each device


@dataclass(frozen=True, kw_only=True)
class Report:
    jobs: int
    makespan_seconds: float | None
    last_start_seconds: float | None
    lower_bound_seconds: float
    mean_wait_seconds: Mapping[str, float]  # by number of devices
    idle_gap_seconds: Mapping[str, float | None]
    starts_per_second: float | None
    lost: int
    doubled: int
    errors: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def report(*, jobs: Sequence[ReplayJob], launches: Sequence[RecordedLaunch], devices: int) -> Report:
    whole = [launch for launch in launches if launch.started is not None and launch.ended is not None]
    starts = [launch.started for launch in launches if launch.started is not None]
    ends = [launch.ended for launch in whole if launch.ended is not None]
    gaps = sorted(_gaps(jobs, whole))
    took = max(starts) - min(starts) if starts else 0.0
    return Report(
        jobs=len(jobs),
        makespan_seconds=_rounded(max(ends, default=None)),
        last_start_seconds=_rounded(max(starts, default=None)),
        lower_bound_seconds=round(lower_bound(jobs, devices=devices), 3),
        mean_wait_seconds=_waits(jobs, launches),
        idle_gap_seconds={"p50": _percentile(gaps, 0.50), "p99": _percentile(gaps, 0.99)},
        starts_per_second=_rounded(len(starts) / took) if took else None,
        lost=len(lost(jobs, launches)),
        doubled=len(doubled(launches)),
        errors=len(list(errors(jobs, launches))),
    )


def lost(jobs: Iterable[ReplayJob], launches: Iterable[RecordedLaunch]) -> set[int]:
    """Jobs of which no launch succeeded and ended."""
    done = {launch.index for launch in launches if launch.succeeded and launch.ended is not None}
    return {job.index for job in jobs} - done


def doubled(launches: Iterable[RecordedLaunch]) -> set[int]:
    """Jobs that were launched more than once."""
    seen: set[int] = set()
    again: set[int] = set()
    for launch in launches:
        (again if launch.index in seen else seen).add(launch.index)
    return again


def errors(jobs: Sequence[ReplayJob], launches: Sequence[RecordedLaunch]) -> Iterator[str]:
    """What must not be, a sentence each."""
    by_index = {job.index: job for job in jobs}
    for launch in launches:
        job = by_index.get(launch.index)
        if job is None:
            yield f"A launch names job {launch.index}, which the workload has not."
            continue
        yield from _errors_of(job, launch)
    yield from _over_given(launches)


def _errors_of(job: ReplayJob, launch: RecordedLaunch) -> Iterator[str]:
    if not launch.succeeded:
        yield f"Job {job.index} has a launch that did not succeed."
    if launch.started is None or launch.ended is None:
        yield f"Job {job.index} has a launch without a recorded start or end."
        return
    if launch.started < job.submit_seconds - CLOCK_SECONDS:
        yield f"Job {job.index} started at {launch.started:.3f} s, before it was submitted."
    if launch.ended - launch.started < job.duration_seconds - CLOCK_SECONDS:
        yield f"Job {job.index} ended after {launch.ended - launch.started:.3f} of its {job.duration_seconds:.3f} s."
    if len(set(launch.devices)) != job.devices:
        yield f"Job {job.index} held {len(set(launch.devices))} devices instead of {job.devices}."
    if launch.memory_mib != (job.memory_mib or DEVICE_MEMORY_MIB):
        yield f"Job {job.index} held {launch.memory_mib} MiB of each device."
    if launch.pool != job.pool:
        yield f"Job {job.index} of pool {job.pool!r} ran in pool {launch.pool!r}."


def _over_given(launches: Iterable[RecordedLaunch]) -> Iterator[str]:
    changes: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for launch in launches:
        if launch.started is None or launch.ended is None:
            continue
        for device in launch.devices:
            changes[device].append((launch.started, 1, launch.memory_mib))
            changes[device].append((launch.ended, 0, -launch.memory_mib))
    for device, steps in changes.items():
        held = 0
        for at, _, memory_mib in sorted(steps):  # of one moment, ends come first
            held += memory_mib
            if held > DEVICE_MEMORY_MIB:
                yield f"Device {device} was given {held} of {DEVICE_MEMORY_MIB} MiB at {at:.3f} s."
                break


def _gaps(jobs: Iterable[ReplayJob], launches: Iterable[RecordedLaunch]) -> Iterator[float]:
    """How long a device stood idle between two launches, where the second job was there already when the first ended."""
    submitted = {job.index: job.submit_seconds for job in jobs}
    by_device: dict[int, list[tuple[float, float, int]]] = defaultdict(list)
    for launch in launches:
        for device in launch.devices:
            by_device[device].append((launch.started or 0.0, launch.ended or 0.0, launch.index))
    for held in by_device.values():
        held.sort()
        until = math.inf  # when all that began before has ended
        for started, ended, index in held:
            if submitted.get(index, math.inf) <= until <= started:
                yield started - until
            until = ended if math.isinf(until) else max(until, ended)


def _waits(jobs: Sequence[ReplayJob], launches: Iterable[RecordedLaunch]) -> dict[str, float]:
    started: dict[int, float] = {}
    for launch in launches:
        if launch.started is not None:
            started[launch.index] = min(launch.started, started.get(launch.index, math.inf))
    waits: dict[int, list[float]] = defaultdict(list)
    for job in jobs:
        if job.index in started:
            waits[job.devices].append(started[job.index] - job.submit_seconds)
    return {str(devices): round(sum(each) / len(each), 3) for devices, each in sorted(waits.items())}


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that so much of all is at most."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4) if ordered else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
