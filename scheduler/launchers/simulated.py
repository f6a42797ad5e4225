"""Jobs that are only timers, for simulated devices: same records, same endings, no process.

A job's end follows from one small record and the boot-time clock, which nobody sets, so a new launcher goes on where an
old one stopped. After a restart of the machine the wall clock says how much is left.

timer.json  when the job started, how long it takes and may take
exit.json   how it ended, if that does not follow from its timer
"""

import heapq
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scheduler.launchers import process_tree, records
from scheduler.launchers.base import Adoption, Ending, ExitRecord, LaunchError, LaunchRequest
from scheduler.launchers.job_tree import boot_clock

TIMER = "timer.json"


@dataclass(frozen=True, kw_only=True)
class _Timer:
    job_id: int
    started_at: float  # unix seconds
    started_clock: float  # the same moment by the boot-time clock
    boot_id: str
    duration_seconds: float
    limit_seconds: float


class _Running(NamedTuple):
    control_dir: Path
    due: float  # by the boot-time clock
    ending: ExitRecord  # the one that it will have


class SimulatedLauncher:
    """See base.Launcher. A job succeeds after `duration_seconds`, or times out where its limit is shorter.

    Its records are not synced to disk: a power cut may lose what never ran.
    """

    def __init__(
        self, *, clock: Callable[[], float] = boot_clock, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._boot_id = process_tree.boot_id()
        self._running: dict[int, _Running] = {}
        self._timers: list[tuple[float, int]] = []  # by the boot-time clock
        self._ended: dict[int, ExitRecord] = {}
        self._woken = False
        self._changed = threading.Condition()

    def submit(self, request: LaunchRequest) -> None:
        """See base.Launcher."""
        if request.duration_seconds is None:
            raise LaunchError(f"Job {request.job_id} has no duration_seconds; a simulated launch needs one.")
        if self.adopt(job_id=request.job_id, control_dir=request.control_dir) is Adoption.ABSENT:
            self._start(request)

    def submit_all(self, requests: Sequence[LaunchRequest]) -> dict[int, LaunchError]:
        """See base.Launcher."""
        refused: dict[int, LaunchError] = {}
        for request in requests:
            try:
                self.submit(request)
            except (LaunchError, OSError, ValueError, TypeError) as error:  # its record may hold anything
                refused[request.job_id] = LaunchError(f"{error}")
        return refused

    def _start(self, request: LaunchRequest) -> None:
        timer = _Timer(
            job_id=request.job_id,
            started_at=self._wall_clock(),
            started_clock=self._clock(),
            boot_id=self._boot_id,
            duration_seconds=request.duration_seconds or 0.0,
            limit_seconds=request.limit_seconds,
        )
        try:
            _write(request.control_dir, timer)
        except OSError as error:
            raise LaunchError(f"Job {request.job_id} was not launched: {error}") from error
        self._schedule(request.control_dir, timer)

    def _schedule(self, control_dir: Path, timer: _Timer) -> None:
        due = self._due(timer)
        self._running[timer.job_id] = _Running(control_dir, due, _natural_ending(timer))
        heapq.heappush(self._timers, (due, timer.job_id))

    def _due(self, timer: _Timer) -> float:
        seconds = min(timer.duration_seconds, timer.limit_seconds)
        if timer.boot_id == self._boot_id:
            return timer.started_clock + seconds
        return self._clock() + timer.started_at + seconds - self._wall_clock()

    def adopt(self, *, job_id: int, control_dir: Path, was_launched: bool = False) -> Adoption:
        """See base.Launcher. Nothing is ever LOST: what a simulated job did while nobody watched is known, and one
        whose record is gone leaves no process, so that it may be launched again."""
        timer = _read(control_dir)
        if timer is None:
            return Adoption.ABSENT
        cancelled = records.read_exit(control_dir)
        if cancelled or self._due(timer) <= self._clock():
            self._running.pop(job_id, None)
            self._ended[job_id] = cancelled or _natural_ending(timer)
            return Adoption.ENDED
        if job_id not in self._running:
            self._schedule(control_dir, timer)
        return Adoption.RUNNING

    def cancel(self, *, job_id: int) -> None:
        """See base.Launcher."""
        running, now = self._running.get(job_id), self._clock()
        if running is None or running.due <= now:
            return
        natural = running.ending
        ended_at = natural.ended_at - (running.due - now)
        ending = _ending(job_id, Ending.CANCELLED, natural.started_at, ended_at, "Cancelled.")
        records.write_exit(running.control_dir, ending, durable=False)
        del self._running[job_id]
        self._ended[job_id] = ending

    def wait(self, *, timeout_seconds: float) -> list[ExitRecord]:
        """See base.Launcher."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not (ended := self._take_ended()) and not self._woken:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, self._seconds_to_next()))
            self._woken = False
        return ended

    def _seconds_to_next(self) -> float:
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else threading.TIMEOUT_MAX

    def _take_ended(self) -> list[ExitRecord]:
        while self._timers and self._timers[0][0] <= self._clock():
            _, job_id = heapq.heappop(self._timers)
            if job_id in self._running:  # a cancelled job's own timer is still to come
                self._end(job_id)
        ended, self._ended = self._ended, {}
        return list(ended.values())

    def _end(self, job_id: int) -> None:
        self._ended[job_id] = self._running.pop(job_id).ending

    def wake(self) -> None:
        """See base.Launcher."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """See base.Launcher."""
        self._running.clear()
        self._timers.clear()


def _write(control_dir: Path, timer: _Timer) -> None:
    """Whole or not at all."""
    control_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = control_dir / f".{TIMER}"
    temporary.write_text(json.dumps(vars(timer)))
    temporary.replace(control_dir / TIMER)


def _read(control_dir: Path) -> _Timer | None:
    try:
        return _Timer(**json.loads((control_dir / TIMER).read_text()))
    except FileNotFoundError:
        return None


def _natural_ending(timer: _Timer) -> ExitRecord:
    duration, limit = timer.duration_seconds, timer.limit_seconds
    if duration <= limit:
        return _ending(
            timer.job_id, Ending.EXITED, timer.started_at, timer.started_at + duration, "Exited with code 0."
        )
    message = f"Ran longer than its limit of {limit:g} s."
    return _ending(timer.job_id, Ending.TIMED_OUT, timer.started_at, timer.started_at + limit, message)


def _ending(job_id: int, ending: Ending, started_at: float, ended_at: float, message: str) -> ExitRecord:
    return ExitRecord(
        job_id=job_id,
        ending=ending,
        exit_code=0 if ending is Ending.EXITED else None,
        signal=None,
        started_at=started_at,
        ended_at=ended_at,
        peak_rss_mib=None,
        cpu_seconds=None,
        unkillable_pids=(),
        message=message,
    )
