"""Jobs that are only timers, for simulated devices: same records, same endings, no process.

A job's end follows from one small record and the clock, so a new launcher goes on where an old one stopped.

timer.json  when the job started, how long it takes and may take
exit.json   how it ended, if that does not follow from its timer
"""

import heapq
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scheduler.launchers import records
from scheduler.launchers.base import Adoption, Ending, ExitRecord, LaunchError, LaunchRequest

TIMER = "timer.json"


@dataclass(frozen=True, kw_only=True)
class _Timer:
    job_id: int
    started_at: float  # unix seconds
    duration_seconds: float
    limit_seconds: float


class SimulatedLauncher:
    """See base.Launcher. A job succeeds after `duration_seconds`, or times out where its limit is shorter.

    Its records are not synced to disk: a power cut may lose what never ran.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._running: dict[int, tuple[Path, ExitRecord]] = {}  # with the ending it will have
        self._timers: list[tuple[float, int]] = []
        self._ended: dict[int, ExitRecord] = {}
        self._woken = False
        self._changed = threading.Condition()

    def submit(self, request: LaunchRequest) -> None:
        """See base.Launcher."""
        if request.duration_seconds is None:
            raise LaunchError(f"Job {request.job_id} has no duration_seconds; a simulated launch needs one.")
        if self.adopt(job_id=request.job_id, control_dir=request.control_dir) is Adoption.ABSENT:
            self._start(request)

    def _start(self, request: LaunchRequest) -> None:
        timer = _Timer(
            job_id=request.job_id,
            started_at=self._clock(),
            duration_seconds=request.duration_seconds or 0.0,
            limit_seconds=request.limit_seconds,
        )
        try:
            _write(request.control_dir, timer)
        except OSError as error:
            raise LaunchError(f"Job {request.job_id} was not launched: {error}") from error
        self._schedule(request.control_dir, _natural_ending(timer))

    def _schedule(self, control_dir: Path, ending: ExitRecord) -> None:
        self._running[ending.job_id] = (control_dir, ending)
        heapq.heappush(self._timers, (ending.ended_at, ending.job_id))

    def adopt(self, *, job_id: int, control_dir: Path) -> Adoption:
        """See base.Launcher. Nothing is ever LOST: what a simulated job did while nobody watched is known."""
        timer = _read(control_dir)
        if timer is None:
            return Adoption.ABSENT
        ended = records.read_exit(control_dir) or _natural_ending(timer)
        if ended.ended_at <= self._clock():
            self._running.pop(job_id, None)
            self._ended[job_id] = ended
            return Adoption.ENDED
        if job_id not in self._running:
            self._schedule(control_dir, ended)
        return Adoption.RUNNING

    def cancel(self, *, job_id: int) -> None:
        """See base.Launcher."""
        now = self._clock()
        if job_id not in self._running or self._running[job_id][1].ended_at <= now:
            return
        control_dir, natural = self._running[job_id]
        ending = _ending(job_id, Ending.CANCELLED, natural.started_at, now, "Cancelled.")
        records.write_exit(control_dir, ending, durable=False)
        self._schedule(control_dir, ending)

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
        _, self._ended[job_id] = self._running.pop(job_id)

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
