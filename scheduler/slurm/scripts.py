"""Batch scripts of a plan: pure text, from what each run's program would be started with."""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPT = "run.sbatch"
MARKER = "labmgr_run.json"
EXIT = "exit.json"
SUBMIT = "submit.sh"


@dataclass(frozen=True, kw_only=True)
class SlurmRun:
    """One run: what Slurm is asked for, and what is started."""

    name: str
    directory: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    time: str | None  # None: the partition's default, since there is no evidence
    memory_mib: int | None
    gpus: int
    cpus: int
    after: str | None  # the name of the run that it builds on
    marker: Mapping[str, Any] = field(default_factory=dict)  # what takes the results back finds the run by


def script(run: SlurmRun) -> str:
    """Runs the program, keeps its output, and writes down how it ended, which Slurm forgets."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(run.env.items())]
    folder = shlex.quote(str(run.directory))
    return "\n".join(
        [
            "#!/bin/sh",
            *_directives(run),
            "",
            f"cd {folder} || exit 1",
            f"rm -f {EXIT}",
            "mkdir -p tmp",
            *exports,
            "began=$(date +%s.%N)",
            f"{shlex.join(run.argv)} > output.log 2>&1",
            "code=$?",
            f'printf \'{{"exit_code": %d, "started_at": %s, "ended_at": %s}}\\n\' '
            f'"$code" "$began" "$(date +%s.%N)" > {EXIT}',
            'exit "$code"',
            "",
        ]
    )


def submit_script(runs: Iterable[SlurmRun]) -> str:
    """Submits all of them, each evaluation after its fine-tune has succeeded."""
    lines = [
        "#!/bin/sh",
        "# Submits every run of the plan; those that build on another wait for it.",
        "set -e",
    ]
    variables: dict[str, str] = {}
    for number, run in enumerate(runs):
        variables[run.name] = f"job_{number}"
        waits = f'--dependency="afterok:${variables[run.after]}" ' if run.after else ""
        path = shlex.quote(str(run.directory / SCRIPT))
        lines.append(f"{variables[run.name]}=$(sbatch --parsable {waits}{path})")
        lines.append(f'echo {shlex.quote(run.name)} "${variables[run.name]}"')
    return "\n".join([*lines, ""])


def files(runs: Iterable[SlurmRun]) -> dict[Path, str]:
    """The scripts and markers of runs, by their paths."""
    written: dict[Path, str] = {}
    for run in runs:
        written[run.directory / SCRIPT] = script(run)
        written[run.directory / MARKER] = json.dumps(dict(run.marker), indent=1) + "\n"
    return written


def _directives(run: SlurmRun) -> list[str]:
    asked = {
        "job-name": run.name,
        "output": str(run.directory / "slurm-%j.out"),
        "time": run.time,
        "mem": f"{run.memory_mib}M" if run.memory_mib else None,
        "gres": f"gpu:{run.gpus}" if run.gpus else None,
        "cpus-per-task": str(run.cpus),
    }
    return [f"#SBATCH --{name}={_one_line(value)}" for name, value in asked.items() if value]


def _one_line(value: str) -> str:
    """Slurm splits a directive at blanks."""
    return value.replace(" ", "\\ ")
