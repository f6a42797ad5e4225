"""One real fine-tune: the job that labmgr itself would launch, with a metric logger that keeps the clock."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.specs import FinetuneSpec
from scheduler.paths import JobPaths
from scheduler.programs.base import CarriedRun, Command, GrantedDevice, PlacedJob, Surroundings
from scheduler.programs.torchtune import Torchtune

ML_PYTHON = os.environ.get(
    "LABMGR_ML_PYTHON", str(Path(__file__).resolve().parents[2] / "var" / "env" / "ml" / "bin" / "python")
)
RECIPE = "lora_finetune_single_device"
STEP_CLOCK = {"metric_logger._component_": "step_clock.StepClock"}
# What a fine-tune imports before it builds anything.
_IMPORTS = f"""
import re, runpy, pathlib, torchtune, torchtune._cli.tune
recipe = pathlib.Path(torchtune.__file__).parent.parent / "recipes" / "{RECIPE}.py"
runpy.run_path(str(recipe), run_name="imported")
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


@dataclass(frozen=True, kw_only=True)
class Finished:
    exit_code: int
    launched_at: float  # seconds since the epoch
    total_seconds: float
    peak_memory_mib: float  # of the process, as the kernel counted it
    busy_elsewhere: float  # share of the time that the cores which it may not use were busy, 0 to 1
    events: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, str]


def prepare(
    spec: FinetuneSpec,
    *,
    directory: Path,
    rows: list[dict[str, str]],
    device: GrantedDevice,
    surroundings: Surroundings,
    threads: int = 1,
) -> Command:
    """An empty directory with the rows and the configuration; what was there is gone."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "tmp").mkdir(parents=True)
    Path(spec.data.path).write_text(json.dumps({"train": rows}))
    job = PlacedJob(
        job_id=1,
        title=directory.name,
        paths=JobPaths(directory, directory / "control"),
        runs=(CarriedRun(run_id=1, name=directory.name, spec=spec),),
        devices=(device,),
        cpu_threads=threads,
    )
    command = Torchtune().prepare(job, surroundings)
    for path, text in command.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return command


def launch(command: Command, directory: Path) -> Finished:
    environment = {**command.env, "PYTHONPATH": str(Path(__file__).parent)}
    with (directory / "output.log").open("wb") as log:
        launched_at, ticks_before = time.time(), _ticks_elsewhere()
        process = subprocess.Popen(
            command.argv, env=environment, cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        ended_at = time.time()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Finished(
        exit_code=process.returncode,
        launched_at=launched_at,
        total_seconds=ended_at - launched_at,
        peak_memory_mib=usage.ru_maxrss / 1024,
        busy_elsewhere=_busy_share(ticks_before, _ticks_elsewhere()),
        events=_events(directory / "output" / "logs" / "events.jsonl"),
        environment=command.env,
    )


def import_memory_mib(ml_python: Path) -> float:
    """The peak of a process that imports what a fine-tune imports, and builds nothing."""
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [ml_python, "-c", _IMPORTS], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


def ml_python(text: str) -> Path:
    """An argument's value, or the default: the Python of the ML environment."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text} is not there; name it in LABMGR_ML_PYTHON or --ml-python.")
    return path


def processor() -> str:
    """The name of this machine's CPU."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else "CPU"


def _ticks_elsewhere() -> tuple[int, int]:
    """Of the cores that are not this process's: ticks so far, and those of them that were idle."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    cores = [
        [int(ticks) for ticks in line[1:9]]
        for line in lines
        if line and re.fullmatch(r"cpu\d+", line[0]) and line[0] not in ours
    ]
    return sum(sum(core) for core in cores), sum(core[3] + core[4] for core in cores)


def _busy_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    total, idle = after[0] - before[0], after[1] - before[1]
    return 1 - idle / total if total else 0.0


def _events(path: Path) -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(line) for line in path.read_text().splitlines()) if path.exists() else ()
