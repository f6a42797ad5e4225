"""Whose a process on a GPU is: a job's of this lab, somebody else's, or nobody's any more.

A job's process descends from its supervisor, or is in the session of its first process, or bears the job's marks, or
descends from one that does. Nothing else tells: a program may rewrite its environment, and a supervisor may die.
"""

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from django.conf import settings

from experiments.states import OPEN_JOB_STATES
from scheduler.launchers import process_tree, records
from scheduler.launchers.process_tree import Process
from scheduler.models import Job, Node
from scheduler.placed import paths_of

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO in the kernel's proc_fs.h


class Presence(StrEnum):
    SEEN = "seen"
    HIDDEN = "hidden"  # it is there, and /proc does not show it: another account's, mounted with hidepid
    GONE = "gone"
    UNKNOWN = "unknown"  # its number is of a namespace that is not ours


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """The process trees of jobs, as they are known now."""

    control_root: Path
    supervisors: Mapping[Process, int]  # to the job's id
    sessions: Mapping[int, int]

    def job_of(self, pid: int) -> int | None:
        """The id of the job whose process this is; None for one of somebody else."""
        for process, session in process_tree.lineage(pid):
            if process in self.supervisors:
                return self.supervisors[process]
            if session in self.sessions:
                return self.sessions[session]
            if marked := self._marked(process.pid):
                return marked
        return None

    def _marked(self, pid: int) -> int | None:
        """A job 7 of another installation is not ours: the folder of its records tells."""
        environment = process_tree.environment(pid)
        directory, job_id = (environment.get(name, "") for name in ("LABMGR_CONTROL_DIR", "LABMGR_JOB_ID"))
        ours = directory and Path(directory).is_relative_to(self.control_root)
        return int(job_id) if ours and job_id.isdigit() else None


def open_jobs_of(node: Node) -> Jobs:
    jobs = Job.objects.filter(node=node, state__in=OPEN_JOB_STATES).select_related("experiment")
    return trees_of(jobs)


def trees_of(jobs: Iterable[Job]) -> Jobs:
    """Also of a job that has ended, of which something may be left."""
    supervisors: dict[Process, int] = {}
    sessions: dict[int, int] = {}
    for job in jobs:
        record = _record(job)
        if record and record.supervisor:
            supervisors[record.supervisor] = job.pk
        if record and record.leader and process_tree.find(record.leader.pid) in (record.leader, None):
            sessions[record.leader.pid] = job.pk
    root = Path(os.path.realpath(settings.CONTROL_ROOT))
    return Jobs(control_root=root, supervisors=supervisors, sessions=sessions)


def presence(pid: int) -> Presence:
    if process_tree.find(pid):
        return Presence.SEEN if process_tree.is_alive(pid) else Presence.GONE
    if Path("/proc/self/ns/pid").stat().st_ino != _INITIAL_PID_NAMESPACE:
        return Presence.UNKNOWN
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Presence.GONE
    except PermissionError:
        return Presence.HIDDEN
    return Presence.SEEN


def described(pid: int) -> str:
    """`python3 (pid 4242) of ada`, as far as it can be seen."""
    try:
        program = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        return f"{program} (pid {pid}) of {_account(Path(f'/proc/{pid}').stat().st_uid)}"
    except OSError:
        return f"a process that cannot be seen from here (pid {pid})"


def program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _record(job: Job) -> records.SupervisorRecord | None:
    try:
        return records.read_supervisor(paths_of(job).control)
    except (records.RecordError, OSError):
        return None
