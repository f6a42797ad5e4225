"""Batch scripts, as Slurm and a shell read them."""

import json
import subprocess
from pathlib import Path

import pytest

from scheduler.slurm.scripts import MARKER, SCRIPT, SlurmRun, files, script, submit_script


def slurm_run(folder: Path, *argv: str, name: str = "a_rank4/finetune", after: str | None = None) -> SlurmRun:
    return SlurmRun(
        name=name,
        directory=folder / name.replace("/", "-"),
        argv=argv or ("true",),
        env={"OMP_NUM_THREADS": "1", "ODD": "it's $HOME; `id`"},
        time="01:15:00",
        memory_mib=2048,
        gpus=2,
        cpus=4,
        after=after,
        marker={"experiment": "e", "run": name},
    )


def started(run: SlurmRun) -> subprocess.CompletedProcess[str]:
    for path, text in files([run]).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run(["sh", str(run.directory / SCRIPT)], capture_output=True, text=True)


def test_slurm_is_asked_for_what_the_run_takes(tmp_path: Path) -> None:
    text = script(slurm_run(tmp_path))
    for directive in ("--time=01:15:00", "--mem=2048M", "--gres=gpu:2", "--cpus-per-task=4"):
        assert f"#SBATCH {directive}\n" in text


def test_what_is_not_known_is_not_asked_for(tmp_path: Path) -> None:
    run = SlurmRun(**{**vars(slurm_run(tmp_path)), "time": None, "memory_mib": None, "gpus": 0})
    assert not any(word in script(run) for word in ("--time", "--mem", "--gres"))


def test_a_shell_takes_arguments_and_variables_literally(tmp_path: Path) -> None:
    run = slurm_run(tmp_path, "sh", "-c", 'printf "%s|%s" "$ODD" "$1"', "sh", "two words; $(id)")
    assert started(run).returncode == 0
    assert (run.directory / "output.log").read_text() == "it's $HOME; `id`|two words; $(id)"


@pytest.mark.parametrize("code", [0, 3])
def test_how_it_ended_is_written_down(tmp_path: Path, code: int) -> None:
    run = slurm_run(tmp_path, "sh", "-c", f"exit {code}")
    assert started(run).returncode == code
    record = json.loads((run.directory / "exit.json").read_text())
    assert record["exit_code"] == code
    assert record["ended_at"] >= record["started_at"] > 1e9
    assert json.loads((run.directory / MARKER).read_text())["run"] == run.name


def test_an_evaluation_is_submitted_after_its_fine_tune(tmp_path: Path) -> None:
    runs = [
        slurm_run(tmp_path, name="a/finetune"),
        slurm_run(tmp_path, name="a/evaluate", after="a/finetune"),
    ]
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@" >> "$LOG"\nwc -l < "$LOG"\n')
    fake.chmod(0o755)
    (tmp_path / "submit.sh").write_text(submit_script(runs))
    environment = {"PATH": f"{fake.parent}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
    done = subprocess.run(["sh", tmp_path / "submit.sh"], env=environment, capture_output=True, text=True)
    assert done.stdout == "a/finetune 1\na/evaluate 2\n"
    first, second = (tmp_path / "log").read_text().splitlines()
    assert "dependency" not in first
    assert "--dependency=afterok:1 " in second
