"""What labmgr generates is what torchtune understands, and what torchtune would ignore or refuse is found."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import recipes
from experiments.specs import DataSource, FinetuneSpec, ValidationSpec
from experiments.torchtune_config import build_config
from tests.unit.jobs import DATA, LLAMA, finetune_spec

RECIPE = "lora_finetune_single_device"
VALIDATION = ValidationSpec(data=replace(DATA, split="validation"), rows=4, every_n_steps=5)
SPECS: dict[str, dict[str, Any]] = {
    "lora": {},
    "qlora": {"method": "qlora"},
    "full": {"method": "full", "recipe": "full_finetune_single_device"},
    "distributed": {"recipe": "lora_finetune_distributed", "world_size": 2},
    "full distributed": {"method": "full", "recipe": "full_finetune_distributed", "world_size": 2},
    "validating": {"recipe": "lora_validating_single_device", "validation": VALIDATION},
    "full validating": {
        "method": "full",
        "recipe": "full_validating_single_device",
        "validation": VALIDATION,
    },
    "own": {
        "recipe": "mine.py",
        "recipe_file": "/r/mine.py",
        "overrides": {"own.depth": 3, "own.a.b": {"c": 1}},
    },
    "sgd": {"overrides": {"optimizer._component_": "torch.optim.SGD", "optimizer.momentum": 0.9}},
    "csv": {"data": replace(DATA, format="csv")},
    "chat": {"data": replace(DATA, format="parquet", messages_column="said")},
}


def config_of(spec: FinetuneSpec, *, on_gpu: bool = True, **model: Any) -> dict[str, Any]:
    return build_config(
        spec=spec,
        model_config={**LLAMA, **model},
        weight_files=["model.safetensors"],
        output_dir=Path("/out"),
        on_gpu=on_gpu,
    )


def problems(config: dict[str, Any], recipe: str = RECIPE) -> list[str]:
    return [str(problem) for problem in recipes.check_config(recipe, config)]


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("model", [{}, {"tie_word_embeddings": False}])
def test_every_generated_configuration_is_understood(kind: str, model: dict[str, Any]) -> None:
    spec = finetune_spec(**SPECS[kind])
    recipe = recipes.named(spec.recipe, method=spec.method)
    assert recipes.check_config(recipe, config_of(spec, **model)) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bach_size": 4}, "ignores the key 'bach_size'. Did you mean 'batch_size'?"),
        ({"own": {"x": 1}}, "ignores the key 'own'"),
        ({"seed": "${oc.env:HOME}"}, "is an interpolation"),
        ({"optimizer": {"_component_": "os.system"}}, "'os.system' is not on the allow-list"),
        (
            {"optimizer": {"_component_": "torch.optim.SGD", "betas": [0, 1]}},
            "torch.optim.SGD takes no 'betas'",
        ),
        (
            {"lr_scheduler": {"_component_": recipes.COMPONENTS["lr_scheduler"].__iter__().__next__()}},
            "num_warmup",
        ),
        ({"optimizer": 3}, "3 is no component"),
        ({"compile": {"a": 1}}, "A section of settings is not expected here"),
        ({"dtype": "fp16"}, "trains in no precision 'fp16'. Use one of bf16, fp32."),
        ({"enable_activation_offloading": True}, "works with activation checkpointing only"),
        ({"dataset": {"_component_": "torchtune.datasets.alpaca_dataset"}}, "is not on the allow-list"),
        ({"metric_logger": {"_component_": "torchtune.training.metric_logging.WandBLogger"}}, "allow-list"),
    ],
)
def test_what_torchtune_would_ignore_or_refuse_is_found(change: dict[str, Any], sentence: str) -> None:
    found = problems({**config_of(finetune_spec()), **change})
    assert len(found) == 1
    assert sentence in found[0]


@pytest.mark.parametrize("key", ["max_steps_per_epoch", "seed", "tokenizer"])
def test_a_key_that_the_recipe_needs_is_missed(key: str) -> None:
    config = config_of(finetune_spec())
    del config[key]
    assert [f"needs the key {key!r}" in problem for problem in problems(config)] == [True]


def test_offloading_needs_a_gpu() -> None:
    spec = finetune_spec(
        overrides={"enable_activation_offloading": True, "enable_activation_checkpointing": True}
    )
    assert problems(config_of(spec)) == []
    assert "this runs on a CPU" in problems(config_of(spec, on_gpu=False))[0]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gradient_accumulation_steps": 2}, "gradients cannot be accumulated"),
        ({"overrides": {"clip_grad_norm": 1.0}}, "gradients cannot be clipped"),
    ],
)
def test_an_optimizer_in_the_backward_pass_takes_single_gradients(
    fields: dict[str, Any], sentence: str
) -> None:
    spec = finetune_spec(method="full", **fields)
    config = {**config_of(spec), "optimizer_in_bwd": True}
    (problem,) = problems(config, "full_finetune_single_device")
    assert sentence in problem


def test_methods_differ_in_their_model_and_in_what_they_save() -> None:
    lora, qlora, full = (config_of(finetune_spec(method=method)) for method in ("lora", "qlora", "full"))
    assert lora["model"]["_component_"] == qlora["model"]["_component_"] == f"{FAMILY}.lora_llama3_2"
    assert ("quantize_base" in lora["model"], qlora["model"]["quantize_base"]) == (False, True)
    assert full["model"] == {"_component_": f"{FAMILY}.llama3_2", **architecture(lora["model"])}
    assert ("save_adapter_weights_only" in full, full["optimizer_in_bwd"]) == (False, False)


FAMILY = "torchtune.models.llama3_2"


def architecture(model: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if "lora" not in name and name != "_component_"}


def test_a_validation_set_is_never_packed() -> None:
    spec = finetune_spec(packed=True, validation=replace(VALIDATION, max_batches=3))
    config = config_of(spec)
    assert (config["dataset"]["packed"], config["dataset_val"]["packed"]) == (True, False)
    assert config["dataset_val"]["field"] == "validation"
    assert (config["run_val_every_n_steps"], config["val_max_batches"]) == (5, 3)


def test_chat_rows_need_a_format_that_holds_lists() -> None:
    data = DataSource(path="/d.csv", format="csv", split="train", messages_column="said")
    with pytest.raises(ValueError, match="CSV, which holds no lists of messages"):
        config_of(finetune_spec(data=data))


def test_special_tokens_are_torchtunes_own_where_the_model_does_not_list_them_all() -> None:
    def tokenizer(listed: bool) -> dict[str, Any]:
        config = build_config(
            spec=finetune_spec(),
            model_config=LLAMA,
            weight_files=[],
            output_dir=Path("/out"),
            on_gpu=False,
            special_tokens_listed=listed,
        )
        found: dict[str, Any] = config["tokenizer"]
        return found

    assert tokenizer(True)["special_tokens_path"] == "/models/tiny/tokenizer.json"
    assert "special_tokens_path" not in tokenizer(False)
