"""labmgr as a lab has it: `./lab up` in a throwaway home, with a node worker, its resident launcher and supervisors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from labmgr.bootstrap import configuration as configurations
from tests.benchmarks import throwaway
from tests.benchmarks.gaps import Ran
from tests.benchmarks.queue_peers import recorder
from tests.benchmarks.queue_peers.base import Outcome, PeerError, Work
from tests.lab import REPOSITORY, Lab

SESSION = "tests.benchmarks.queue_peers.labmgr_session"
NAME = "idle_gap"


class Labmgr:
    def __init__(self, *, on_postgres: bool) -> None:
        self._on_postgres = on_postgres
        self.name = "labmgr" if on_postgres else "labmgr (SQLite)"
        self.queue_on_disk = "PostgreSQL, fsync on" if on_postgres else "SQLite, synced at checkpoints"

    def missing(self) -> str | None:
        return None

    def run(self, work: Work, folder: Path) -> Outcome:
        with (
            throwaway.database(folder, on_postgres=self._on_postgres) as settings,
            _lab(folder, work, settings) as lab,
        ):
            told = _session(lab, work)
        if told["unfinished"]:
            raise PeerError(f"{told['unfinished']} runs of labmgr did not end; the lab's logs told why.")
        return Outcome(
            submitted_at=told["submitted_at"],
            slot_of={_number(job["run"]): job["slot"] for job in told["jobs"]},
            details={
                "approve_seconds": round(told["approve_seconds"], 3),
                "steps_ms": steps(told["jobs"], recorder.read(work.record)),
            },
        )


def steps(jobs: list[dict[str, Any]], ran: list[Ran]) -> dict[str, dict[str, float]]:
    """Where a gap goes, from one process's end to the next one's start on the same device; medians and maxima in ms."""
    process = {each.name: each for each in ran}
    found: dict[str, list[float]] = {}
    for earlier, later in _successors(jobs):
        moments = {
            "process ended": process[_number(earlier["run"])].ended,
            "its supervisor has seen it": earlier["ended_at"],
            "the next is placed": later["placed_at"],
            "claimed": later["claimed_at"],
            "its supervisor is up": later["started_at"],
            "process started": process[_number(later["run"])].started,
        }
        names = list(moments)
        for before, after in zip(names, names[1:], strict=False):
            found.setdefault(after, []).append(1000 * (moments[after] - moments[before]))
    return {name: {"p50": round(median(each), 1), "max": round(max(each), 1)} for name, each in found.items()}


def _successors(jobs: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for slot in {job["slot"] for job in jobs}:
        held = [job for job in jobs if job["slot"] == slot and job["started_at"]]
        held.sort(key=lambda job: job["started_at"])
        yield from zip(held, held[1:], strict=False)


@contextmanager
def _lab(folder: Path, work: Work, settings: dict[str, str]) -> Iterator[Lab]:
    (folder / "home").mkdir()
    ml_python = os.environ.get("LABMGR_ML_PYTHON") or sys.executable  # commands need no ML environment
    slots = {"LABMGR_CPU_SLOTS": str(work.slots), "LABMGR_ML_PYTHON": ml_python}
    lab = Lab(folder / "home", checkout=REPOSITORY, **settings, **slots)
    try:
        lab.up()
        yield lab
    finally:
        lab.run("stop")
        if left := lab.processes():
            raise PeerError(f"labmgr left processes behind: {left}")


def _session(lab: Lab, work: Work) -> dict[str, Any]:
    told = {
        "name": NAME,
        "argv": work.argv("{number}"),
        "count": work.count,
        "seconds": work.seconds,
        "slots": work.slots,
    }
    done = subprocess.run(
        [sys.executable, "-m", SESSION, json.dumps(told)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=dict(configurations.load(lab.environment).environment),
    )
    if done.returncode:
        raise PeerError(f"labmgr's session failed: {done.stderr[-1000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _number(run: str) -> str:
    """Of a run that is named after its cell, `number17`."""
    return run.removeprefix("number")
