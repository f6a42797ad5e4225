"""Jobs as process trees on this machine.

A job's supervisor needs nobody to watch it. The launcher watches it all the same, by pidfd, to tell how it
ended, and cleans up after a supervisor that was killed. The control directory is all it needs to know of a
job: a new launcher adopts what an old one left.
"""

import contextlib
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scheduler.launchers import process_tree, records, supervisor
from scheduler.launchers.base import Adoption, Ending, ExitRecord, LaunchError, LaunchRequest
from scheduler.launchers.resident_handle import ResidentHandle

SETTLING_SECONDS = 5.0  # for a supervisor that is between two of its first or last steps

logger = logging.getLogger(__name__)


class _Watched(NamedTuple):
    job_id: int
    control_dir: Path
    pidfd: int


class LocalLauncher:
    """See base.Launcher."""

    def __init__(self) -> None:
        self._resident = ResidentHandle()
        self._watched: dict[int, _Watched] = {}
        self._unclear: dict[int, Path] = {}  # their supervisors ended, but how could not be read yet
        self._ended: dict[int, ExitRecord] = {}
        self._alarm = _Alarm()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._alarm.descriptor, selectors.EVENT_READ)

    @property
    def resident_pid(self) -> int | None:
        return self._resident.pid

    def submit(self, request: LaunchRequest) -> None:
        """See base.Launcher."""
        if refused := self.submit_all([request]):
            raise refused[request.job_id]

    def submit_all(self, requests: Sequence[LaunchRequest]) -> dict[int, LaunchError]:
        """See base.Launcher."""
        answers = self._launch(requests)
        refused = {r.job_id: why for r in requests if (why := self._take(r, answers.get(r.job_id, "")))}
        return {
            job_id: LaunchError(f"Job {job_id} was not launched: {why}") for job_id, why in refused.items()
        }

    def _launch(self, requests: Sequence[LaunchRequest]) -> dict[int, str]:
        """What was answered for each, by job."""
        answers: dict[int, str] = {}
        prepared: dict[int, Path] = {}
        for request in requests:
            try:
                if records.read_supervisor(request.control_dir):
                    answers[request.job_id] = "it was launched before"
                else:
                    records.write_launch(request)
                    prepared[request.job_id] = request.control_dir.absolute()
            except (OSError, records.RecordError) as error:
                answers[request.job_id] = f"{error}"
        return answers | self._ask(prepared)

    def _ask(self, prepared: Mapping[int, Path]) -> dict[int, str]:
        if not prepared:
            return {}
        try:
            return dict(zip(prepared, self._resident.launch(list(prepared.values())), strict=True))
        except (OSError, LaunchError) as error:  # some may have started: whether they have is looked at
            return dict.fromkeys(prepared, f"{error}")

    def _take(self, request: LaunchRequest, answer: str) -> str:
        """Watch it; or why it was not launched."""
        try:
            adoption = self.adopt(job_id=request.job_id, control_dir=request.control_dir)
        except (OSError, LaunchError, records.RecordError) as error:
            return f"{error}"
        return (answer or _last_words(request.control_dir)) if adoption is Adoption.ABSENT else ""

    def adopt(self, *, job_id: int, control_dir: Path, was_launched: bool = False) -> Adoption:
        """See base.Launcher. Raises LaunchError for a job whose supervisor lives, but out of our sight."""
        deadline = time.monotonic() + SETTLING_SECONDS
        while not (adoption := self._look(job_id, control_dir)):
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"Job {job_id}: {control_dir / records.LOCK} is held by a process that cannot be seen "
                    "from here. Let no two nodes or containers share this folder."
                )
            time.sleep(0.01)
        return self._lose(job_id, control_dir) if adoption is Adoption.ABSENT and was_launched else adoption

    def _look(self, job_id: int, control_dir: Path) -> Adoption | None:
        """What became of a job; None while its supervisor is between two states."""
        if ended := records.read_exit(control_dir):
            return self._settle(ended, Adoption.ENDED)
        if not control_dir.is_dir():
            return Adoption.ABSENT
        if not records.lock_is_free(control_dir):
            return self._watch(job_id, control_dir)
        lock = records.take_lock(control_dir)
        if lock is None:
            return None
        try:  # holding it keeps a supervisor from starting while the strays of another are killed
            return self._look_without_supervisor(job_id, control_dir)
        finally:
            os.close(lock)

    def _look_without_supervisor(self, job_id: int, control_dir: Path) -> Adoption:
        if ended := records.read_exit(control_dir):  # it may have ended since we looked
            return self._settle(ended, Adoption.ENDED)
        lost = records.read_supervisor(control_dir)
        if lost is None:
            return Adoption.ABSENT
        record = _end_lost(job_id, control_dir, lost)
        records.write_exit(control_dir, record)
        return self._settle(record, Adoption.LOST)

    def _lose(self, job_id: int, control_dir: Path) -> Adoption:
        """Its records are gone, as with a control folder that was deleted. What lives of it is killed before there is
        a folder again, so that a supervisor that lives cannot write down how it ended."""
        unknown = records.SupervisorRecord(
            supervisor=None, boot_id=process_tree.boot_id(), started_at=time.time()
        )
        record = _end_lost(job_id, control_dir, unknown)
        control_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        records.write_exit(control_dir, record)
        return self._settle(record, Adoption.LOST)

    def _settle(self, record: ExitRecord, adoption: Adoption) -> Adoption:
        self._forget(record.job_id)
        self._ended[record.job_id] = record
        return adoption

    def _watch(self, job_id: int, control_dir: Path) -> Adoption | None:
        record = records.read_supervisor(control_dir)
        if record is None or record.supervisor is None or record.boot_id != process_tree.boot_id():
            return None
        pidfd = process_tree.open_pidfd(record.supervisor)
        if pidfd is None:
            return None
        self._forget(job_id)
        self._watched[job_id] = _Watched(job_id, control_dir, pidfd)
        self._selector.register(pidfd, selectors.EVENT_READ, self._watched[job_id])
        return Adoption.RUNNING

    def _forget(self, job_id: int) -> None:
        self._unclear.pop(job_id, None)
        if watched := self._watched.pop(job_id, None):
            self._selector.unregister(watched.pidfd)
            os.close(watched.pidfd)

    def cancel(self, *, job_id: int) -> None:
        """See base.Launcher."""
        if watched := self._watched.get(job_id):
            with contextlib.suppress(ProcessLookupError):  # it has ended, and the next wait() says how
                signal.pidfd_send_signal(watched.pidfd, signal.SIGTERM)

    def wait(self, *, timeout_seconds: float) -> list[ExitRecord]:
        """See base.Launcher."""
        for job_id, control_dir in list(self._unclear.items()):
            self._take_ending(job_id, control_dir)
        for key, _ in self._selector.select(0 if self._ended else timeout_seconds):
            if key.data is None:
                self._alarm.clear()
            else:
                self._take_ending(key.data.job_id, key.data.control_dir)
        ended, self._ended = self._ended, {}
        return list(ended.values())

    def _take_ending(self, job_id: int, control_dir: Path) -> None:
        try:
            self.adopt(job_id=job_id, control_dir=control_dir)
        except (OSError, LaunchError, records.RecordError):
            logger.exception("Job %s ended, but %s does not tell how: it stays open", job_id, control_dir)
            self._forget(job_id)  # or its pidfd would keep wait() from ever blocking
            self._unclear[job_id] = control_dir

    def wake(self) -> None:
        """See base.Launcher."""
        self._alarm.ring()

    def close(self) -> None:
        """See base.Launcher. The resident launcher ends, too."""
        for job_id in list(self._watched):
            self._forget(job_id)
        self._selector.close()
        self._alarm.close()
        self._resident.stop()


class _Alarm:
    """A descriptor that any thread can make readable, also while another closes it."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open = True
        self._guard = threading.Lock()

    def ring(self) -> None:
        with self._guard:
            if self._open:
                os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        os.eventfd_read(self.descriptor)

    def close(self) -> None:
        with self._guard:
            if self._open:
                os.close(self.descriptor)
            self._open = False


def _last_words(control_dir: Path) -> str:
    log = control_dir / supervisor.LOG
    words = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"its supervisor died at once ({words[-1] if words else 'without a word'})"


def _end_lost(job_id: int, control_dir: Path, lost: records.SupervisorRecord) -> ExitRecord:
    """Kill what is left of a job whose supervisor died, unless the whole machine did."""
    same_boot = lost.boot_id == process_tree.boot_id()
    unkillable = _kill_strays(job_id, control_dir, lost.leader) if same_boot else ()
    reason = "its supervisor died" if lost.supervisor else "the records of its launch are gone"
    reason = reason if same_boot else "the machine was restarted"
    rest = f"could not be killed: {list(unkillable)}" if unkillable else "has gone"
    return ExitRecord(
        job_id=job_id,
        ending=Ending.SUPERVISOR_LOST,
        exit_code=None,
        signal=None,
        started_at=lost.started_at,
        ended_at=time.time(),
        peak_rss_mib=None,
        cpu_seconds=None,
        unkillable_pids=unkillable,
        message=f"Its own ending is unknown: {reason}. What was left of its processes {rest}.",
    )


def _kill_strays(job_id: int, control_dir: Path, leader: process_tree.Process | None) -> tuple[int, ...]:
    return process_tree.kill_until_gone(
        lambda: process_tree.strays(job_id=job_id, control_dir=control_dir, leader=leader)
    )
