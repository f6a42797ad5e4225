from pathlib import Path
from typing import Any

import pytest

from experiments import recipes
from experiments.documents import InvalidDocument


def choose(**asked: Any) -> recipes.Recipe:
    return recipes.choose(**{"method": "lora", "devices": 1, "validation": False, "asked": None, **asked})


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "lora_finetune_single_device"),
        ({"method": "qlora"}, "lora_finetune_single_device"),
        ({"method": "full"}, "full_finetune_single_device"),
        ({"devices": 2}, "lora_finetune_distributed"),
        ({"devices": 4, "method": "full"}, "full_finetune_distributed"),
        ({"validation": True}, "lora_validating_single_device"),
        ({"validation": True, "method": "full"}, "full_validating_single_device"),
        ({"asked": "lora_finetune_single_device"}, "lora_finetune_single_device"),
        ({"asked": "my_recipe.py", "method": "full"}, "my_recipe.py"),
    ],
)
def test_the_recipe_follows_from_the_method_the_devices_and_the_validation(
    asked: dict[str, Any], name: str
) -> None:
    assert choose(**asked).name == name


@pytest.mark.parametrize(
    ("asked", "path", "sentence"),
    [
        (
            {"asked": "lora_finetune_single_device", "devices": 2},
            "resources.devices",
            "uses one device, and 2 are",
        ),
        ({"asked": "lora_finetune_distributed"}, "resources.devices", "is for several devices, and one is"),
        (
            {"method": "qlora", "devices": 2},
            "fixed.method",
            "QLoRA runs on one device here, and 2 are asked for",
        ),
        (
            {"asked": "full_finetune_single_device"},
            "fixed.recipe",
            "trains all weights, and the method is lora",
        ),
        (
            {"asked": "lora_finetune_single_device", "method": "full"},
            "fixed.recipe",
            "trains an adapter, and the method is full",
        ),
        ({"asked": "lora_finetune_single_device", "validation": True}, "validation", "does not validate"),
        ({"asked": "my_recipe.py", "validation": True}, "validation", "my_recipe.py does not validate"),
        ({"asked": "my_recipe.py", "devices": 2}, "resources.devices", "my_recipe.py uses one device"),
        (
            {"asked": "lora_validating_single_device"},
            "fixed.recipe",
            "validates, and no validation is asked for",
        ),
        ({"devices": 2, "validation": True}, "validation", "runs on one device only"),
        (
            {"asked": "lora_finetune_singel_device"},
            "fixed.recipe",
            "Did you mean 'lora_finetune_single_device'?",
        ),
    ],
)
def test_a_contradiction_is_told_with_its_remedy(asked: dict[str, Any], path: str, sentence: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        choose(**asked)
    (problem,) = refused.value.problems
    assert problem.path == path
    assert sentence in str(problem)
    assert problem.remedy


@pytest.mark.parametrize(
    ("recipe", "method", "sentence"),
    [
        ("lora_finetune_distributed", "lora", "NCCL, which needs GPUs. Ask for one device."),
        ("full_finetune_distributed", "full", "NCCL"),
        ("lora_finetune_single_device", "qlora", "Use the method lora, or a node with a GPU."),
    ],
)
def test_what_needs_a_gpu_is_refused_on_cpu(recipe: str, method: Any, sentence: str) -> None:
    assert sentence in (recipes.refused_on_cpu(recipe, method) or "")


@pytest.mark.parametrize(
    ("recipe", "method"),
    [("lora_finetune_single_device", "lora"), ("full_validating_single_device", "full"), ("mine.py", "lora")],
)
def test_what_runs_on_cpu_is_not_refused(recipe: str, method: Any) -> None:
    assert recipes.refused_on_cpu(recipe, method) is None


def test_a_labs_own_recipe_is_found_under_its_root_only(tmp_path: Path) -> None:
    root = tmp_path / "recipes"
    root.mkdir()
    (root / "mine.py").touch()
    (tmp_path / "other.py").touch()
    (root / "link.py").symlink_to(tmp_path / "other.py")
    assert recipes.own_file("mine.py", [root]) == root / "mine.py"
    for outside in ("../other.py", "link.py", str(tmp_path / "other.py"), "minne.py"):
        with pytest.raises(InvalidDocument, match="is not there under the declared roots"):
            recipes.own_file(outside, [root])


def test_only_a_file_is_a_labs_own() -> None:
    assert recipes.is_own("mine.py")
    assert not any(recipes.is_own(name) for name in recipes.RECIPES)
