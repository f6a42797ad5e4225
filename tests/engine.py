"""Real jobs of the ML environment, run as the agent would and without it: for tests of what programs prepare."""

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from experiments.specs import DataSource, RunSpec
from scheduler.launchers.base import ExitRecord
from scheduler.programs import PROGRAMS
from scheduler.programs.base import CarriedRun, PlacedJob, Program, Surroundings, Verdict
from tests.lab import REPOSITORY
from tests.unit.jobs import carried, job_of, record

TINY = REPOSITORY / "experiments" / "demo" / "models" / "tiny-llama-s"
LONG_SECONDS = 300


def words(folder: Path, count: int = 48) -> DataSource:
    """Words of several lengths, so that batches are padded, in a file with three splits."""
    rows = [{"input": f"word{'x' * (n % 7)}{n}", "output": f"WORD{'X' * (n % 7)}{n}"} for n in range(count)]
    path = folder / "words.json"
    path.write_text(json.dumps({"train": rows, "validation": rows[:10], "test": rows[:3]}))
    return DataSource(path=str(path), format="json_splits", split="train", system_prompt="Capitalize.")


def run_job(folder: Path, spec: RunSpec, **before: object) -> tuple[PlacedJob, Verdict]:
    """One run in a job of its own, prepared, run to its end, and judged."""
    folder.mkdir(exist_ok=True)
    run: CarriedRun = carried(spec, **before)
    job = replace(job_of(folder, run), cpu_threads=1)
    program: Program = PROGRAMS[spec.kind]  # type: ignore[index]
    command = program.prepare(job, _surroundings(folder))
    for path, text in command.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if path in command.executables else 0o644)
    job.paths.scratch.mkdir(exist_ok=True)
    ended = _run(job, command.argv, dict(command.env))
    return job, program.verify(job, ended)[run.run_id]


def repeat(job: PlacedJob) -> None:
    """As somebody would who has the folder and not labmgr."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(job.paths.scratch)}
    subprocess.run(
        [str(job.paths.directory / "command.sh")],
        env=environment,
        check=True,
        capture_output=True,
        timeout=LONG_SECONDS,
    )


def _run(job: PlacedJob, argv: tuple[str, ...], env: dict[str, str]) -> ExitRecord:
    started_at = time.time()
    with job.paths.log.open("wb") as log:
        done = subprocess.run(
            argv, cwd=job.paths.directory, env=env, stdout=log, stderr=log, timeout=LONG_SECONDS
        )
    return record(exit_code=done.returncode, started_at=started_at, ended_at=time.time())


def _surroundings(folder: Path) -> Surroundings:
    return Surroundings(ml_python=Path(settings.ML_PYTHON), cache_root=folder / "cache")
