"""A plan as batch scripts, and what they leave taken back into its cells."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from experiments import documents, planning
from experiments.models import Experiment, Observation, Run
from experiments.planning import NameTaken
from experiments.states import FinishReason, RunState
from scheduler.slurm import export, takeback
from tests import logs
from tests.factories import NOW, make_device, make_node
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

DEMO = documents.load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
FINETUNE, EVALUATE = "tiny-llama-s_rank4/finetune", "tiny-llama-s_rank4/evaluate"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    settings.RUN_ROOT = tmp_path
    shutil.copytree(REPOSITORY / "experiments/demo/models", tmp_path / "models")
    (tmp_path / "datasets").mkdir()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the scripts of the demo's plan, on a lab with GPUs."""
    make_device(node=make_node(), kind="gpu", model_name="GPU", memory_mib=80_000)
    document = tmp_path / "demo.yaml"
    document.write_text(json.dumps(DEMO))
    call_command("plan", str(document), sbatch=tmp_path / "batch")
    return tmp_path / "batch"


def ended(folder: Path, name: str, code: int, log: str = "") -> Path:
    """As the batch script of a run leaves its folder."""
    directory = folder / name.replace("/", "-")
    (directory / "output.log").write_text(log)
    record = {"exit_code": code, "started_at": 1000.0, "ended_at": 1060.0}
    (directory / "exit.json").write_text(json.dumps(record))
    return directory


def trained(folder: Path) -> None:
    output = ended(folder, FINETUNE, 0) / "output"
    (output / "logs").mkdir(parents=True)
    steps = [f"Step {step} | loss:0.5 lr:0.001 tokens_per_second_per_gpu:100.0 \n" for step in range(1, 801)]
    (output / "logs/log_1.txt").write_text("".join(steps))
    (output / "epoch_1").mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (output / "epoch_1" / name).write_text("{}")


def run_named(name: str) -> Run:
    return Run.objects.get(name=name)


def test_every_run_gets_a_script_with_what_its_program_reads(folder: Path) -> None:
    scripts = sorted(path.parent.name for path in folder.glob("*/run.sbatch"))
    assert len(scripts) == 10
    directory = folder / "tiny-llama-s_rank4-finetune"
    text = (directory / "run.sbatch").read_text()
    assert "#SBATCH --gres=gpu:1\n" in text and "CUDA_VISIBLE_DEVICES" not in text
    assert (directory / "finetune.yaml").is_file()
    assert (folder / "submit.sh").read_text().count('--dependency="afterok:') == 4


def test_an_adapter_is_looked_for_where_the_fine_tunes_script_leaves_it(folder: Path) -> None:
    request = json.loads((folder / "tiny-llama-s_rank4-evaluate" / "request.json").read_text())
    adapter = folder / "tiny-llama-s_rank4-finetune/output/epoch_1"
    assert request["entries"][0]["adapter_path"] == str(adapter)


def test_results_are_verified_and_taken_back_once(folder: Path) -> None:
    trained(folder)
    first = {taken.run_name: taken.message for taken in takeback.take_back(path=folder, now=NOW)}
    assert first[FINETUNE] == "SUCCEEDED"
    assert "has not ended" in first[EVALUATE]
    run = run_named(FINETUNE)
    assert (run.state, run.directory) == (RunState.SUCCEEDED, str(folder / "tiny-llama-s_rank4-finetune"))
    assert run_named(EVALUATE).ready_at == NOW
    count = Observation.objects.count()
    assert count
    again = {taken.run_name: taken.message for taken in takeback.take_back(path=folder, now=NOW)}
    assert "already" in again[FINETUNE]
    assert Observation.objects.count() == count


def test_harvest_takes_them_back_and_does_not_count_their_logs_as_earlier_work(folder: Path) -> None:
    log = folder / "tiny-llama-s_rank4-finetune/output.log"
    log.write_bytes(logs.log())
    call_command("harvest", str(folder))  # it has not ended yet
    assert not Observation.objects.exists()
    trained(folder)
    log.write_bytes(logs.log())
    call_command("harvest", str(folder))
    call_command("harvest", str(folder), str(log))
    assert run_named(FINETUNE).state == RunState.SUCCEEDED
    assert set(Observation.objects.values_list("run__name", flat=True)) == {FINETUNE}


def test_an_end_that_is_recorded_wrongly_is_no_end(folder: Path) -> None:
    directory = ended(folder, FINETUNE, 0)
    (directory / "exit.json").write_text('{"exit_code": "none"}')
    messages = {taken.run_name: taken.message for taken in takeback.take_back(path=folder, now=NOW)}
    assert "has not ended" in messages[FINETUNE]
    assert run_named(FINETUNE).state == RunState.PLANNED


def test_where_slurm_ran_it_is_not_known_so_its_time_is_used_for_nothing(folder: Path) -> None:
    trained(folder)
    takeback.take_back(path=folder, now=NOW)
    told = Observation.objects.filter(run=run_named(FINETUNE), metric="startup_seconds")
    assert not told.filter(is_complete=True).exists()


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (0, "", FinishReason.TRAINED_NOTHING),
        (1, "torch.OutOfMemoryError: CUDA out of memory.", FinishReason.OUT_OF_MEMORY),
        (137, "", FinishReason.KILLED),
    ],
)
def test_a_script_that_failed_fails_its_run_and_what_builds_on_it(
    folder: Path, code: int, log: str, reason: FinishReason
) -> None:
    ended(folder, FINETUNE, code, log)
    takeback.take_back(path=folder, now=NOW)
    assert (run_named(FINETUNE).state, run_named(FINETUNE).reason) == (RunState.FAILED, reason)
    assert run_named(EVALUATE).reason == FinishReason.DEPENDENCY_FAILED


def test_an_ending_is_not_taken_for_that_of_a_later_attempt(folder: Path) -> None:
    ended(folder, FINETUNE, 1)
    takeback.take_back(path=folder, now=NOW)
    Experiment.objects.update(approved_at=NOW)
    call_command("rerun", Experiment.objects.get().name, "--failed")
    messages = {taken.run_name: taken.message for taken in takeback.take_back(path=folder, now=NOW)}
    assert messages[FINETUNE] == "it is FAILED already; nothing is changed."
    assert (run_named(FINETUNE).attempt, run_named(FINETUNE).state) == (2, RunState.QUEUED)


def test_slurms_time_limit_is_told_from_its_own_output(folder: Path) -> None:
    directory = folder / "tiny-llama-s_rank4-finetune"
    (directory / "slurm-7.out").write_text(
        "slurmstepd: error: *** JOB 7 CANCELLED AT ... DUE TO TIME LIMIT ***\n"
    )
    takeback.take_back(path=folder, now=NOW)
    assert run_named(FINETUNE).reason == FinishReason.TIMED_OUT


def test_only_the_newest_output_of_a_run_that_was_submitted_again_counts(folder: Path) -> None:
    directory = folder / "tiny-llama-s_rank4-finetune"
    (directory / "slurm-999.out").write_text("*** JOB 999 CANCELLED AT ... DUE TO TIME LIMIT ***\n")
    (directory / "slurm-1000.out").write_text("")
    takeback.take_back(path=folder, now=NOW)
    assert run_named(FINETUNE).state == RunState.PLANNED


def test_results_of_what_was_planned_otherwise_since_are_not_taken(folder: Path) -> None:
    trained(folder)
    planning.store(
        plan=planning.plan(data={**DEMO, "fixed": {**DEMO["fixed"], "seed": 5}}, user=None, now=NOW),
        user=None,
        now=NOW,
    )
    messages = {taken.run_name: taken.message for taken in takeback.take_back(path=folder, now=NOW)}
    assert "was changed since" in messages[FINETUNE]
    assert run_named(FINETUNE).state == RunState.PLANNED


def test_a_lab_without_devices_of_its_own_exports_for_gpus(tmp_path: Path) -> None:
    document = tmp_path / "demo.yaml"
    document.write_text(json.dumps(DEMO))
    call_command("plan", str(document), sbatch=tmp_path / "batch")
    directory = tmp_path / "batch/tiny-llama-s_rank4-finetune"
    assert "#SBATCH --gres=gpu:1\n" in (directory / "run.sbatch").read_text()
    assert "device: cuda" in (directory / "finetune.yaml").read_text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"run": 7}', '{"experiment": "other", "run": "x"}'])
def test_a_marker_of_nobody_changes_nothing(folder: Path, text: str) -> None:
    marker = folder / "tiny-llama-s_rank4-finetune" / "labmgr_run.json"
    marker.write_text(text)
    ended(folder, FINETUNE, 0)
    messages = [taken.message for taken in takeback.take_back(path=folder, now=NOW)]
    assert any("has no such run" in message for message in messages)
    assert run_named(FINETUNE).state == RunState.PLANNED


def test_a_draft_with_results_is_not_planned_away(folder: Path) -> None:
    trained(folder)
    takeback.take_back(path=folder, now=NOW)
    plan = planning.plan(data=DEMO, user=None, now=NOW)
    with pytest.raises(NameTaken, match="has results already"):
        planning.store(plan=plan, user=None, now=NOW)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    experiment = planning.store(plan=planning.plan(data=DEMO, user=None, now=NOW), user=None, now=NOW)
    with pytest.raises(OSError, match="file"):
        export.write(experiment=experiment, folder=tmp_path / "file")
    assert Experiment.objects.count() == 1
