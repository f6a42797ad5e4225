"""A job that writes down when it lives, on the clock that all machines of a test share: that of their one kernel.

Run as a program: beats.py FILE GATE. It goes on until the gate is there.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Life:
    """Of one process tree."""

    job: int
    first: float
    last: float
    longest_gap: float
    ended: bool  # by itself


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def lives(file: Path) -> list[Life]:
    """In the order of their beginnings."""
    beats: dict[int, list[float]] = {}
    ended: set[int] = set()
    for line in file.read_text().splitlines() if file.exists() else []:
        beat = json.loads(line)
        beats.setdefault(beat["job"], []).append(beat["at"])
        if beat["is_last"]:
            ended.add(beat["job"])
    found = [
        Life(
            job,
            at[0],
            at[-1],
            max((b - a for a, b in zip(at, at[1:], strict=False)), default=0.0),
            job in ended,
        )
        for job, at in beats.items()
    ]
    return sorted(found, key=lambda life: life.first)


def main(file: Path, gate: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        is_last = gate.exists()
        beat = {"job": int(os.environ["LABMGR_JOB_ID"]), "at": now(), "is_last": is_last}
        os.write(descriptor, (json.dumps(beat) + "\n").encode())
        if is_last:
            return
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
