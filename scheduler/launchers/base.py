"""What every launcher promises: submit a job, adopt it after a restart, cancel it, hear how it ended.

A launcher knows processes and nothing of runs, devices or the database. Standard library only: the resident
launcher and its supervisors import this, too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    job_id: int
    argv: tuple[str, ...]  # never given to a shell; a bare name is looked up in the PATH of `env`
    env: Mapping[str, str]  # all the job sees, beside the marks the launcher adds (process_tree.marks)
    cwd: Path
    log_path: Path  # stdout and stderr, appended
    control_dir: Path  # records of this job, outside what the job writes; 0700
    limit_seconds: float
    grace_seconds: float = 10.0  # from TERM to KILL
    duration_seconds: float | None = None  # only for simulated launches
    fence_file: Path | None = None  # the job ends at the time that is written there (fence.py)

    def __post_init__(self) -> None:
        if not self.argv:
            raise ValueError(f"Job {self.job_id} has an empty argv; give at least the program to start.")
        if not (math.isfinite(self.limit_seconds) and self.limit_seconds > 0):
            raise ValueError(
                f"Job {self.job_id} has limit_seconds={self.limit_seconds}; give a number above 0."
            )


class Ending(StrEnum):
    EXITED = "exited"  # by itself, whatever its code or signal
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SUPERVISOR_LOST = "supervisor_lost"
    NODE_LOST = "node_lost"  # by its own supervisor, before another node could take its runs
    LAUNCH_FAILED = "launch_failed"


@dataclass(frozen=True, kw_only=True)
class ExitRecord:
    """How a job ended. Its whole tree is gone, except for `unkillable_pids`.

    `exit_code` and `signal` are those of the first process, also when the ending was forced.
    """

    job_id: int
    ending: Ending
    exit_code: int | None
    signal: int | None
    started_at: float  # unix seconds
    ended_at: float  # started_at plus the time that passed, so that a stepped clock bends no duration
    peak_rss_mib: int | None  # the largest sum seen over the tree; shared pages count once a process
    cpu_seconds: float | None
    unkillable_pids: tuple[int, ...]
    message: str


class Adoption(StrEnum):
    RUNNING = "running"  # watched from now on
    ENDED = "ended"  # while nobody watched; its ExitRecord comes from the next wait()
    LOST = "lost"  # its supervisor had died; strays were killed; its ExitRecord comes from the next wait()
    ABSENT = "absent"  # never launched


class LaunchError(Exception):
    """The job could not be handed to a supervisor; the sentence says why."""


class Launcher(Protocol):
    """One thread calls wait(); wake() may come from any thread, everything else from the waiting one."""

    def submit(self, request: LaunchRequest) -> None:
        """Launch a job; return once its supervisor has its record on disk; raise LaunchError if it has not.

        Submitting a job that was launched before starts nothing: it is adopted.
        """

    def submit_all(self, requests: Sequence[LaunchRequest]) -> dict[int, LaunchError]:
        """Submit several, whose supervisors start side by side; by the ids of their jobs, why some were not launched."""

    def adopt(self, *, job_id: int, control_dir: Path, was_launched: bool = False) -> Adoption:
        """Take over a job that may have been launched by an earlier process; may be repeated.

        Of one that `was_launched` for certain and left no record, a tree may live: it is LOST, never ABSENT.
        """

    def cancel(self, *, job_id: int) -> None:
        """Ask for the end of a job that is watched; returns at once, may be repeated."""

    def wait(self, *, timeout_seconds: float) -> list[ExitRecord]:
        """Block until a job ended, wake() was called or the time is over."""

    def wake(self) -> None:
        """Make the present or the next wait() return."""

    def close(self) -> None:
        """Stop watching. The jobs live on."""
