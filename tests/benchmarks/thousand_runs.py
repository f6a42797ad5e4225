"""Whether a lab holds a thousand runs at once, and its pages answer meanwhile.

    python -m tests.benchmarks.thousand_runs [--runs 1000] [--seconds 120] [--cores 2] [--postgres] [--json]

`./lab up` in a throwaway home, with as many simulated devices as there are runs, on so many cores; a plan of simulated runs is
approved, and while all of them run a visitor who is logged in looks at the dashboard, the lists and the pages. Exits with 1
if the runs were never all running at the same time, did not all succeed, or took more memory than --most-mib.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.launchers import process_tree
from tests.benchmarks import throwaway
from tests.benchmarks.gaps import percentile_ms
from tests.benchmarks.shared_memory import PeakMemory, pss_mib
from tests.benchmarks.visitor import Visitor
from tests.lab import Lab

NAME = "thousand"
ROUNDS = 20  # that the visitor makes of all pages
LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Found:
    runs: int
    plan_seconds: float  # with its approval, and the start of the command
    all_running_seconds: float | None  # from the approval; None if they never were
    still_running: int  # when the visitor had seen everything
    all_ended_seconds: float
    succeeded: int
    idle_mib: float
    peak_mib: float
    pages_ms: dict[str, dict[str, float | None]]

    def faults(self, *, most_mib: int) -> list[str]:
        told = []
        if self.all_running_seconds is None:
            told.append(f"the {self.runs} runs never ran all at the same time")
        elif self.still_running < self.runs:
            told.append(
                f"only {self.still_running} still ran when the pages had been seen; give more --seconds"
            )
        if self.succeeded < self.runs:
            told.append(f"{self.runs - self.succeeded} of {self.runs} runs did not succeed")
        if self.peak_mib > most_mib:
            told.append(f"{self.peak_mib:.0f} MiB are more than {most_mib}")
        return told


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    os.sched_setaffinity(
        0, sorted(os.sched_getaffinity(0))[: options.cores]
    )  # inherited by all that is started
    with _lab(options) as lab:
        found = _measured(lab, options)
    faults = found.faults(most_mib=options.most_mib)
    print(json.dumps(vars(found) | {"faults": faults}, indent=1) if options.json else _as_text(found, faults))
    return 1 if faults else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120.0, help="that each run takes")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--most-mib", type=int, default=8 * 1024)
    parser.add_argument("--postgres", action="store_true", help="with fsync=on, instead of SQLite")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


@contextmanager
def _lab(options: argparse.Namespace) -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="thousand-", dir="/tmp"))  # paths of sockets have to be short
    folder.chmod(0o755)  # the database's user has to pass through
    try:
        with throwaway.database(folder, on_postgres=options.postgres) as settings:
            (folder / "home").mkdir()
            settings["SIMULATED_DEVICES"] = f"{options.runs}x80GiB"
            settings["LABMGR_ML_PYTHON"] = os.environ.get("LABMGR_ML_PYTHON") or sys.executable
            lab = Lab(folder / "home", checkout=Path(__file__).resolve().parents[2], **settings)
            try:
                lab.up()
                yield lab
            finally:
                lab.run("stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(lab: Lab, options: argparse.Namespace) -> Found:
    visitor = Visitor(lab.url, password=lab.admin_password)
    idle_mib = pss_mib(_pids(lab))
    with PeakMemory(lambda: _pids(lab)) as peak:
        began = time.monotonic()
        lab.start(_document(options))
        approved = time.monotonic()
        all_running = _wait(lambda: _count(visitor, "RUNNING") == options.runs, seconds=options.seconds)
        _visit(visitor)
        still_running = _count(visitor, "RUNNING")
        _wait(
            lambda: not _count(visitor, "RUNNING") + _count(visitor, "QUEUED"), seconds=10 * options.seconds
        )
    return Found(
        runs=options.runs,
        plan_seconds=round(approved - began, 2),
        all_running_seconds=None if all_running is None else round(all_running - approved, 2),
        still_running=still_running,
        all_ended_seconds=round(time.monotonic() - approved, 2),
        succeeded=_count(visitor, "SUCCEEDED"),
        idle_mib=round(idle_mib),
        peak_mib=round(peak.mib),
        pages_ms={name: _percentiles(seconds) for name, seconds in visitor.seconds.items()},
    )


def _document(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": NAME,
        "simulated": {"duration_seconds": options.seconds},
        "seeds": list(range(options.runs)),
        "max_parallel": options.runs,
    }


def _visit(visitor: Visitor) -> None:
    (run,) = visitor.ask("/api/v1/runs/?limit=1")["results"]
    experiment = visitor.link("/admin/experiments/experiment/", r"/experiment/\d+/change/$")
    for _ in range(ROUNDS):
        visitor.look("dashboard", "/admin/")
        visitor.look("list of runs", "/admin/experiments/run/")
        visitor.look("page of a run", f"/admin/experiments/run/{run['id']}/change/")
        visitor.look("page of the experiment", experiment)
        visitor.look("list of devices", "/admin/scheduler/device/")
        visitor.look("API: 100 runs", "/api/v1/runs/")
        visitor.look("API: a run", f"/api/v1/runs/{run['id']}/")


def _count(visitor: Visitor, state: str) -> int:
    return int(visitor.ask(f"/api/v1/runs/?state={state}&limit=1")["count"])


def _wait(reached: Callable[[], bool], *, seconds: float) -> float | None:
    """When it was reached; None if it was not in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_SECONDS)
    return time.monotonic()


def _pids(lab: Lab) -> set[int]:
    """Of the lab, and of the database's server, which this process has started."""
    ours = {process.pid for process in process_tree.descendants(os.getpid())}
    return {*lab.processes(), *ours} - {os.getpid()}


def _percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(seconds)
    return {
        name: percentile_ms(ordered, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


def _as_text(found: Found, faults: Sequence[str]) -> str:
    running = "never" if found.all_running_seconds is None else f"after {found.all_running_seconds} s"
    lines = [
        f"{found.runs} runs: planned and approved in {found.plan_seconds} s, all running {running}, "
        f"{found.succeeded} succeeded, the last after {found.all_ended_seconds} s",
        f"memory of all processes: {found.idle_mib:.0f} MiB before, {found.peak_mib:.0f} MiB at the peak\n",
        "| while all ran | p50, ms | p95, ms | max, ms |\n|---|---|---|---|",
        *(f"| {name} | {ms['p50']} | {ms['p95']} | {ms['max']} |" for name, ms in found.pages_ms.items()),
        *faults,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
