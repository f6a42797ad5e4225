"""Results of batch scripts, back into the cells of the plan that they were written from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction

from experiments import fleet, harvest, lifecycle
from experiments.models import Run
from experiments.parsers import slurm
from experiments.run_conditions import Place
from experiments.states import RunKind
from scheduler.launchers.base import Ending, ExitRecord
from scheduler.programs import PROGRAMS
from scheduler.programs.base import Verdict
from scheduler.slurm import export, scripts
from scheduler.slurm.export import paths_below, placed

MAX_MARKER_BYTES = 64 * 1024
NOT_FROM_A_JOB = 0  # in place of a job's id
_TAIL_BYTES = 64 * 1024  # of a batch job's output, whose length is anybody's guess


@dataclass(frozen=True)
class TakenBack:
    run_name: str
    message: str  # what became of it


def take_back(*, path: Path, now: datetime) -> list[TakenBack]:
    """Look below a folder for runs that batch scripts have ended, and end them in the plan, too.

    Twice is the same as once: a run that has ended already is left as it is.
    """
    markers = sorted(path.resolve().rglob(scripts.MARKER))
    return [taken for marker in markers for taken in _of_marker(marker, now)]


def folders(*, path: Path) -> set[Path]:
    """Where batch scripts below a folder run what this lab has planned, ended or not."""
    return {marker.parent for marker in path.rglob(scripts.MARKER) if _run_of(_read(marker))}


def _run_of(named: Mapping[str, Any]) -> Run | None:
    """Its first attempt: scripts are written of plans, and what was run again since has another."""
    runs = Run.every.of_experiment(str(named.get("experiment", ""))).filter(name=str(named.get("run", "")))
    return runs.filter(attempt=1).select_related("depends_on", "cell__base_model").first()


def _of_marker(marker: Path, now: datetime) -> Iterator[TakenBack]:
    named = _read(marker)
    name, experiment = str(named.get("run", "")), str(named.get("experiment", ""))
    run = _run_of(named)
    if run is None:
        yield TakenBack(
            name or str(marker), f"{marker} is of experiment {experiment!r}, which has no such run."
        )
        return
    if named.get("spec") != export.spec_hash(run):
        yield TakenBack(name, "the plan was changed since its script was written; nothing is changed.")
        return
    record = _exit_record(marker.parent)
    if record is None:
        yield TakenBack(name, f"{marker.parent} has no {scripts.EXIT} yet: it has not ended.")
        return
    yield TakenBack(name, _ended(run, marker.parent, record, now))


def _ended(run: Run, directory: Path, record: ExitRecord, now: datetime) -> str:
    folder = directory.parent
    target = fleet.schedule().fleet().target
    job = placed(run, paths_below(folder, run), folder, target)
    verdict = PROGRAMS[RunKind(run.kind)].verify(job, record)[run.pk]
    with transaction.atomic():
        if not lifecycle.take_back(run_id=run.pk, outcome=verdict.outcome, directory=str(directory), now=now):
            return f"it is {run.state} already; nothing is changed."
        _keep(run, verdict, now)
    return "SUCCEEDED" if verdict.outcome.succeeded else f"FAILED: {verdict.outcome.message}"


def _keep(run: Run, verdict: Verdict, now: datetime) -> None:
    """The devices were Slurm's: what ran there is not known, so its times are used for nothing until somebody says."""
    place = Place(device_kind="", world_size=run.devices, cpu_threads=run.cpu_threads)
    harvest.store(run=run, job_id=NOT_FROM_A_JOB, measurements=verdict.measurements, place=place, now=now)


def _exit_record(directory: Path) -> ExitRecord | None:
    ended = _read(directory / scripts.EXIT)
    times = [ended.get(name) for name in ("started_at", "ended_at")]
    if isinstance(ended.get("exit_code"), int) and all(isinstance(at, int | float) for at in times):
        return _record(Ending.EXITED, ended["exit_code"], ended, "")
    outputs = sorted(directory.glob("slurm-*.out"), key=_job_number)
    if outputs and slurm.ended_by_time_limit(_tail(outputs[-1])):
        return _record(Ending.TIMED_OUT, None, {}, "Slurm's time limit.")
    return None


def _record(ending: Ending, code: int | None, ended: dict[str, Any], message: str) -> ExitRecord:
    """A shell tells a signal as 128 plus its number."""
    signal = code - 128 if code is not None and code > 128 else None
    return ExitRecord(
        job_id=NOT_FROM_A_JOB,
        ending=ending,
        exit_code=None if signal else code,
        signal=signal,
        started_at=float(ended.get("started_at", 0.0)),
        ended_at=float(ended.get("ended_at", 0.0)),
        peak_rss_mib=None,
        cpu_seconds=None,
        unkillable_pids=(),
        message=message,
    )


def _job_number(output: Path) -> int:
    """A run that was submitted again has the output of each of its batch jobs."""
    number = output.stem.removeprefix("slurm-")
    return int(number) if number.isdigit() else -1


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read()


def _read(path: Path) -> dict[str, Any]:
    """Empty where it is missing, too large, or no mapping."""
    try:
        if path.is_symlink() or path.stat().st_size > MAX_MARKER_BYTES:
            return {}
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
