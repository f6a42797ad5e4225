"""The moment after which a node's jobs must not go on, in a file that their supervisors read.

Another node may take a job's runs once this node's session ran out. So the agent writes down, after every renewal,
until when the jobs may run; their supervisors end them then, whether the agent, the network or the database is there
or not. It is a time of CLOCK_BOOTTIME, which nobody sets and which goes on while the machine sleeps.
"""

import math
import os
from pathlib import Path

from scheduler.launchers.job_tree import boot_clock

NEVER = math.inf


class Fence:
    """What a supervisor looks at. Without a file it is asked to look at, nothing is ever over."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._deadline = NEVER

    def is_over(self) -> bool:
        if self._path is None:
            return False
        self._deadline = read(self._path, otherwise=self._deadline)
        return boot_clock() >= self._deadline


def read(path: Path, *, otherwise: float = NEVER) -> float:
    """The deadline; `otherwise` where the file is not there or not whole."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return otherwise


def write(path: Path, deadline: float) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(repr(deadline), encoding="ascii")
    temporary.replace(path)
