"""What a run directory holds to repeat its run."""

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.scripts import command_sh
from experiments.specs import CommandSpec, ValidationSpec
from scheduler.programs.base import Command
from scheduler.programs.command import OwnCommand
from scheduler.programs.environment import ml_versions
from scheduler.programs.torchtune import Torchtune
from tests.unit.jobs import DATA, carried, finetune_spec, job_of, surroundings, write_model

VALIDATION = ValidationSpec(data=DATA, rows=8, every_n_steps=2)


def run_script(folder: Path, text: str) -> str:
    script = folder / "command.sh"
    script.write_text(text)
    script.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "9"}
    done = subprocess.run([script], cwd="/", env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def prepared(folder: Path, **fields: object) -> Command:
    spec = finetune_spec(model_path=str(write_model(folder / "model")), **fields)
    return Torchtune().prepare(job_of(folder, carried(spec)), surroundings(folder))


def test_the_script_gives_every_argument_as_it_was(tmp_path: Path) -> None:
    argv = ("printf", "%s|", "a b", "$HOME", "`id`", "it's", "*", "")
    assert run_script(tmp_path, command_sh(argv=argv, env={})) == "a b|$HOME|`id`|it's|*||"


def test_the_script_sets_what_matters_and_nothing_of_the_service(tmp_path: Path) -> None:
    env = {"OMP_NUM_THREADS": "3", "TMPDIR": "/service", "MINE": "x y", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    shown = run_script(tmp_path, command_sh(argv=("env",), env=env, also=("MINE",), code_folder="code"))
    lines = set(shown.splitlines())
    assert {"OMP_NUM_THREADS=3", "MINE=x y", f"PYTHONPATH={tmp_path}/code"} <= lines
    assert "CUDA_VISIBLE_DEVICES=9" in lines  # who repeats it on other devices says so
    assert "TMPDIR=/service" not in lines


def test_a_command_of_a_labs_own_is_repeated_in_a_folder_of_its_own(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(CommandSpec(argv=("sh", "-c", 'pwd; echo "$MINE"'), env={"MINE": "x y"})))
    command = OwnCommand().prepare(job, surroundings(tmp_path))
    ((script, text),) = command.files.items()
    assert command.executables == {script}
    assert run_script(job.paths.directory, text) == f"{job.paths.directory}/repeat\nx y\n"


def test_a_fine_tune_is_repeated_into_a_folder_of_its_own(tmp_path: Path) -> None:
    command = prepared(tmp_path)
    folder = tmp_path / "job"
    last = command.files[folder / "command.sh"].splitlines()[-1]
    assert last.endswith(
        "run lora_finetune_single_device --config finetune.yaml "
        "output_dir=repeat checkpointer.output_dir=repeat metric_logger.log_dir=repeat/logs"
    )
    assert command.executables == {folder / "command.sh"}
    assert (command.env["PYTHONPATH"], folder / "code" / "step_clock.py" in command.files) == (
        str(folder / "code"),
        True,
    )


def test_versions_and_hashes_of_what_was_read_are_kept(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[]")
    data = replace(DATA, path=str(rows))
    facts = json.loads(prepared(tmp_path, data=data).files[tmp_path / "job" / "environment.json"])
    assert facts["datasets"] == [{"path": str(rows), "sha256": hashlib.sha256(b"[]").hexdigest()}]
    assert facts["model"]["path"] == str(tmp_path / "model")
    assert set(facts) == {"versions", "python", "model", "datasets"}


def test_several_devices_meet_on_a_free_port(tmp_path: Path) -> None:
    argv = prepared(tmp_path, recipe="lora_finetune_distributed", world_size=2).argv
    wanted = "run --standalone --nnodes 1 --nproc_per_node 2 lora_finetune_distributed --config finetune.yaml"
    assert " ".join(argv[3:]) == wanted


@pytest.mark.parametrize(
    ("recipe", "script", "copied"),
    [
        ("lora_validating_single_device", "code/lora_validating_single_device.py", "validation.py"),
        ("mine.py", "code/own/mine.py", "own/mine.py"),
    ],
)
def test_a_recipe_of_ours_or_of_a_lab_is_copied_and_run_as_a_file(
    tmp_path: Path, recipe: str, script: str, copied: str
) -> None:
    (tmp_path / "mine.py").write_text("print('mine')")
    own = {"recipe_file": str(tmp_path / "mine.py")} if recipe == "mine.py" else {}
    validation = {} if own else {"validation": VALIDATION}
    command = prepared(tmp_path, recipe=recipe, **own, **validation)
    assert command.argv[1:] == (script, "--config", "finetune.yaml")
    assert tmp_path / "job" / "code" / copied in command.files


def test_a_labs_own_recipe_without_its_file_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its file is not named"):
        prepared(tmp_path, recipe="mine.py")


def test_a_configuration_that_torchtune_would_ignore_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ignores the key 'bach_size'"):
        prepared(tmp_path, overrides={"bach_size": 3})


def test_versions_are_read_again_when_something_is_installed(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    python = tmp_path / "bin/python"
    site.mkdir(parents=True)
    os.utime(site, (1, 1))  # the file system's clock is too coarse for a test
    assert ml_versions(python) == {}
    installed = site / "torch-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    assert ml_versions(python) == {"torch": "9.9"}
