"""What would fail after it was started is refused when it is planned."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied

from experiments import documents, planning
from experiments.documents import InvalidDocument
from experiments.models import Experiment, Run
from experiments.planning import checks
from experiments.specs import DataSource, EvaluateSpec, FinetuneSpec, spec_to_json
from experiments.states import RunState
from tests.conftest import People
from tests.factories import NOW, make_cell, make_device, make_node, make_run
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

DEMO = documents.load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
ONE = {
    **DEMO,
    "factors": {"model": ["tiny-llama-s"]},
    "fixed": {"batch_size": 4, "epochs": 2, "max_seq_len": 128, "packed": False},
}


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    settings.RUN_ROOT, settings.RECIPE_ROOTS = tmp_path / "runs", [tmp_path / "recipes"]
    shutil.copytree(REPOSITORY / "experiments/demo/models", tmp_path / "models")
    for folder in ("datasets", "runs", "recipes"):
        (tmp_path / folder).mkdir()


def planned(**change: Any) -> planning.Plan:
    return planning.plan(data={**ONE, **change}, user=None, now=NOW)


def refusal(**change: Any) -> str:
    with pytest.raises(InvalidDocument) as refused:
        planned(**change)
    assert not Experiment.objects.exists()
    return str(refused.value)


def on_cpu() -> None:
    node = make_node()
    make_device(node=node)
    make_device(node=node)


def on_gpus() -> None:
    node = make_node()
    for _ in range(2):
        make_device(node=node, kind="gpu", model_name="GPU", memory_mib=80_000)


def test_qlora_is_refused_on_cpu_with_the_reason() -> None:
    on_cpu()
    assert "QLoRA cannot run on CPU" in refusal(fixed={**ONE["fixed"], "method": "qlora"})


def test_several_devices_are_refused_on_cpu_with_the_reason() -> None:
    on_cpu()
    assert "NCCL, which needs GPUs" in refusal(resources={"devices": 2})


def test_several_gpus_take_the_distributed_recipe() -> None:
    on_gpus()
    (row, *_) = planned(resources={"devices": 2}).rows
    assert (row["recipe"], row["devices"]) == ("lora_finetune_distributed", 2)


def test_more_devices_than_any_node_has_are_refused() -> None:
    on_gpus()
    assert "no node has more than 2" in refusal(resources={"devices": 3})


def test_devices_that_any_node_has_are_enough() -> None:
    for _ in range(3):
        make_device(node=make_node(), kind="gpu", model_name="small", memory_mib=24_000)
    on_gpus()
    (row, *_) = planned(resources={"devices": 2}).rows
    assert row["devices"] == 2


def test_checkpoints_that_do_not_fit_on_the_disk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_free_bytes", lambda folder: 1000)
    told = refusal()
    assert "0 MiB free" in told and "`keep: last`" in told


def test_validation_takes_the_validating_recipe_and_its_rows() -> None:
    plan = planned(validation={"every_n_steps": 100})
    spec = plan.cells[0].finetune
    assert spec is not None and spec.validation is not None
    assert (spec.recipe, spec.validation.rows) == ("lora_validating_single_device", 200)


def test_a_recipe_of_ones_own_needs_a_file_under_a_root_and_a_permission(
    tmp_path: Path, people: People
) -> None:
    data = {**ONE, "fixed": {**ONE["fixed"], "recipe": "mine.py"}}
    with pytest.raises(PermissionDenied, match="run_own_recipes"):
        planning.plan(data=data, user=people.owner, now=NOW)
    assert "mine.py" in refusal(fixed=data["fixed"])
    (tmp_path / "recipes/mine.py").write_text("")
    spec = planned(fixed=data["fixed"]).cells[0].finetune
    assert spec is not None and spec.recipe_file == str(tmp_path / "recipes/mine.py")


def test_an_adapter_that_is_there_is_evaluated_by_the_name_of_its_run(tmp_path: Path) -> None:
    folder = _with_adapter(tmp_path / "runs/e/1")
    earlier = _with_adapter(tmp_path / "runs/e/0")
    spec = FinetuneSpec(
        model_name="tiny-llama-s",
        model_path="/m",
        data=DataSource(path="/d", format="json", split="train"),
        rows=10,
        epochs=2,
    )
    tuned = {"name": "old_rank8/finetune", "kind": "finetune", "state": RunState.SUCCEEDED}
    tuned |= {"cell": make_cell(), "spec": spec_to_json(spec)}
    last = make_run(**tuned, attempt=2, directory=str(tmp_path / "runs/e/1"))
    first = make_run(**tuned, superseded_by=last, directory=str(tmp_path / "runs/e/0"))
    for named, found in (
        ("old_rank8/finetune", folder),
        (str(folder), folder),
        (str(last.pk), folder),
        (str(first.pk), earlier),
    ):
        (cell,) = planned(
            cells=[{"model": "tiny-llama-s", "adapter": named}], factors={}, control=False
        ).cells
        (run,) = cell.runs
        assert isinstance(run.spec, EvaluateSpec)
        assert (cell.type, run.spec.adapter_path, run.spec.lora_rank) == ("adapter", str(found), 8)
    assert Run.objects.count() == 1


@pytest.mark.parametrize("rank", [0, -3, "8", None, True])
def test_an_adapter_without_a_rank_that_makes_sense_is_refused(tmp_path: Path, rank: Any) -> None:
    folder = _with_adapter(tmp_path / "runs/e/1")
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    told = refusal(cells=[{"model": "tiny-llama-s", "adapter": str(folder)}], factors={}, control=False)
    assert "does not tell the adapter's rank" in told


def test_weights_that_are_a_link_are_no_adapter(tmp_path: Path) -> None:
    folder = _with_adapter(tmp_path / "runs/e/1")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to("/etc/hostname")
    told = refusal(cells=[{"model": "tiny-llama-s", "adapter": str(folder)}], factors={}, control=False)
    assert "lacks adapter_model.safetensors" in told


@pytest.mark.parametrize("named", ["nobody/finetune", "/etc", "../../etc"])
def test_an_adapter_that_is_not_there_is_said(named: str) -> None:
    told = refusal(cells=[{"model": "tiny-llama-s", "adapter": named}], factors={}, control=False)
    assert named in told and "under the run root or a model root" in told


def _with_adapter(run_directory: Path) -> Path:
    folder = run_directory / "output/epoch_1"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder
