"""Jobs that are only timers, for simulated devices: same records, same endings, no process.

A job's end follows from its records and the clock, so a new launcher goes on where an old one stopped.
"""

import heapq
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scheduler.launchers import process_tree, records
from scheduler.launchers.base import Adoption, Ending, ExitRecord, LaunchError, LaunchRequest


class SimulatedLauncher:
    """See base.Launcher. A job succeeds after `duration_seconds`, or times out where its limit is shorter.

    Its records are not synced to disk: a power cut may lose what never ran.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._running: dict[int, tuple[LaunchRequest, ExitRecord]] = {}  # with the ending it will have
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
        record = records.SupervisorRecord(
            supervisor=None, boot_id=process_tree.boot_id(), started_at=self._clock()
        )
        try:
            records.write_launch(request, durable=False)
            records.write_supervisor(request.control_dir, record, durable=False)
        except OSError as error:
            raise LaunchError(f"Job {request.job_id} was not launched: {error}") from error
        self._schedule(request, _natural_ending(request, record.started_at))

    def _schedule(self, request: LaunchRequest, ending: ExitRecord) -> None:
        self._running[request.job_id] = (request, ending)
        heapq.heappush(self._timers, (ending.ended_at, request.job_id))

    def adopt(self, *, job_id: int, control_dir: Path) -> Adoption:
        """See base.Launcher. Nothing is ever LOST: what a simulated job did while nobody watched is known."""
        if ended := records.read_exit(control_dir):
            self._ended[job_id] = ended
            return Adoption.ENDED
        request, record = records.read_launch(control_dir), records.read_supervisor(control_dir)
        if request is None or record is None:
            return Adoption.ABSENT
        if job_id not in self._running:
            self._schedule(request, _natural_ending(request, record.started_at))
        return Adoption.RUNNING

    def cancel(self, *, job_id: int) -> None:
        """See base.Launcher."""
        now = self._clock()
        if job_id not in self._running or self._running[job_id][1].ended_at <= now:
            return
        request, natural = self._running[job_id]
        self._schedule(request, _ending(request, Ending.CANCELLED, natural.started_at, now, "Cancelled."))

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
        request, ending = self._running.pop(job_id)
        records.write_exit(request.control_dir, ending, durable=False)
        self._ended[job_id] = ending

    def wake(self) -> None:
        """See base.Launcher."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """See base.Launcher."""
        self._running.clear()
        self._timers.clear()


def _natural_ending(request: LaunchRequest, started_at: float) -> ExitRecord:
    duration, limit = request.duration_seconds or 0.0, request.limit_seconds
    if duration <= limit:
        return _ending(request, Ending.EXITED, started_at, started_at + duration, "Exited with code 0.")
    message = f"Ran longer than its limit of {limit:g} s."
    return _ending(request, Ending.TIMED_OUT, started_at, started_at + limit, message)


def _ending(
    request: LaunchRequest, ending: Ending, started_at: float, ended_at: float, message: str
) -> ExitRecord:
    return ExitRecord(
        job_id=request.job_id,
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
