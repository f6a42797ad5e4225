"""Conditions that torchtune's configurations tell, and what they leave open."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments import shapes
from experiments.conditions import FIELDS
from experiments.parsers.torchtune_models import model_config
from experiments.parsers.torchtune_settings import MAX_CONFIG_BYTES, BadConfiguration, read
from experiments.run_conditions import Place, of_finetune
from experiments.torchtune_builders import builder
from experiments.torchtune_config import build_config
from tests.checkpoints import LLAMA_3_2_1B, LLAMA_3_2_3B
from tests.unit.jobs import finetune_spec

DATA = Path(__file__).resolve().parents[1] / "data/torchtune"
LORA = yaml.safe_load((DATA / "tiny_lora.yaml").read_text())


def told(change: dict[str, Any] | None = None, *, recipe_class: str = "") -> dict[str, Any]:
    """Of the real configuration of a LoRA fine-tune, changed; None takes a key away."""
    config = {**LORA, **(change or {})}
    kept = {key: value for key, value in config.items() if value != "absent"}
    return dict(read(yaml.safe_dump(kept), recipe_class=recipe_class).conditions)


def model(**change: Any) -> dict[str, Any]:
    return {"model": {**LORA["model"], **change}}


def test_a_real_lora_configuration() -> None:
    assert told() == {
        "model_name": "tiny",
        "model_shape": "llama h256 l2 q4 kv2 i512 v512 tied",
        "recipe": "lora_finetune_single_device",
        "precision": "fp32",
        "lora_rank": 16,
        "lora_modules": "q_proj,k_proj,v_proj,output_proj,mlp",
        "trainable_parameters": 2 * 16 * (512 + 384 + 384 + 512 + 3 * 768),
        "optimizer": "AdamW",
        "compiled": False,
        "activation_checkpointing": False,
        "activation_offloading": False,
        "attention": "sdpa",
        "loss_chunks": 8,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_seq_len": 128,
        "packed": False,
        "epochs": 2,
        "has_step_cap": False,
        "world_size": 1,
    }


def test_a_real_full_configuration_has_no_adapter() -> None:
    conditions = read((DATA / "tiny_full.yaml").read_text()).conditions
    assert conditions["recipe"] == "full_finetune_single_device"
    assert not {"lora_rank", "lora_modules", "trainable_parameters"} & set(conditions)


def test_validation_is_noticed() -> None:
    assert read((DATA / "tiny_lora_val.yaml").read_text()).validates
    assert not read((DATA / "tiny_lora.yaml").read_text()).validates


@pytest.mark.parametrize(
    "config", [LLAMA_3_2_1B, LLAMA_3_2_3B, {**LLAMA_3_2_1B, "tie_word_embeddings": False}]
)
def test_the_shape_is_the_one_that_the_models_own_config_gives(config: dict[str, Any]) -> None:
    assert shapes.describe(model_config(builder(config))) == shapes.describe(config)


@pytest.mark.parametrize(("name", "config"), [("llama3_2_1b", LLAMA_3_2_1B), ("llama3_2_3b", LLAMA_3_2_3B)])
@pytest.mark.parametrize("prefix", ["", "lora_", "qlora_"])
def test_builders_with_a_size_in_their_name(name: str, config: dict[str, Any], prefix: str) -> None:
    named = {"_component_": f"torchtune.models.llama3_2.{prefix}{name}"}
    assert shapes.describe(model_config(named)) == shapes.describe(config)


@pytest.mark.parametrize(
    "component",
    [
        "torchtune.models.qwen2.lora_qwen2",
        "torchtune.models.llama3_2_vision.llama3_2_vision_11b",
        "",
        "llama",
    ],
)
def test_other_models_have_no_shape_here(component: str) -> None:
    assert "model_shape" not in told(model(_component_=component))


def test_a_rank_that_is_not_said_is_torchtunes() -> None:
    lora = {key: value for key, value in LORA["model"].items() if key != "lora_rank"}
    conditions = told({"model": lora})
    assert (conditions["lora_rank"], conditions["recipe"]) == (8, "lora_finetune_single_device")


def test_a_quantized_base_is_told_from_a_whole_one() -> None:
    assert told(model(quantize_base=True))["precision"] == "nf4"
    assert told(model(_component_="torchtune.models.llama3_2.qlora_llama3_2_1b"))["precision"] == "nf4"


@pytest.mark.parametrize(
    ("change", "recipe_class", "recipe"),
    [
        ({}, "LoRAFinetuneRecipeDistributed", "lora_finetune_distributed"),
        ({}, "KDRecipeSingleDevice", None),
        ({}, "lora_finetune_single_device", "lora_finetune_single_device"),
        ({"device": "cuda"}, "", None),
        ({"device": "cuda", "low_cpu_ram": False}, "", "lora_finetune_single_device"),
        ({"device": "cuda", "fsdp_cpu_offload": False}, "", "lora_finetune_distributed"),
        ({"teacher_model": {"_component_": "x"}}, "", None),
    ],
)
def test_the_recipe_is_told_only_where_it_can_be(
    change: dict[str, Any], recipe_class: str, recipe: str | None
) -> None:
    conditions = told(change, recipe_class=recipe_class)
    assert conditions.get("recipe") == recipe
    assert conditions.get("world_size") == (1 if recipe and "single" in recipe else None)


@pytest.mark.parametrize(
    ("dataset", "packed"),
    [
        ({"_component_": "torchtune.datasets.instruct_dataset"}, False),
        ({"_component_": "torchtune.datasets.instruct_dataset", "packed": True}, True),
        ({"_component_": "our.dataset"}, None),
        (
            [
                {"_component_": "our.dataset", "packed": True},
                {"_component_": "other.dataset", "packed": True},
            ],
            True,
        ),
        ([{"_component_": "our.dataset", "packed": True}, {"_component_": "other.dataset"}], None),
        ("absent", None),
        ({"_component_": "our.dataset", "packed": "${packed}"}, None),
    ],
)
def test_packing(dataset: Any, packed: bool | None) -> None:
    assert told({"dataset": dataset}).get("packed") is packed


def test_a_cap_is_told_from_none() -> None:
    capped = told({"max_steps_per_epoch": 109})
    assert (capped["has_step_cap"], capped["max_steps_per_epoch"]) == (True, 109)
    assert "has_step_cap" not in told({"max_steps_per_epoch": "absent"})


def test_only_the_chunked_loss_has_chunks() -> None:
    assert "loss_chunks" not in told({"loss": {"_component_": "torch.nn.CrossEntropyLoss"}})
    assert told({"loss": {**LORA["loss"], "num_output_chunks": 4}})["loss_chunks"] == 4


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": "four"},
        {"batch_size": -1},
        {"batch_size": 2**31},
        {"batch_size": True},
        {"batch_size": 4.0},
        {"batch_size": "${batch}"},
        {"batch_size": None},
        {"batch_size": [4]},
    ],
)
def test_a_value_that_fits_no_column_says_nothing(change: dict[str, Any]) -> None:
    conditions = told(change)
    assert "batch_size" not in conditions and conditions["epochs"] == 2


def test_what_stands_for_something_else_is_not_resolved() -> None:
    checkpointer = {**LORA["checkpointer"], "checkpoint_dir": "${models}/Llama-3.2-1B"}
    assert told({"checkpointer": checkpointer})["model_name"] == "Llama-3.2-1B"
    assert "model_name" not in told({"checkpointer": {**LORA["checkpointer"], "checkpoint_dir": "${models}"}})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no section `model`"),
        ("model: [", "not YAML"),
        ("- 1", "no section `model`"),
        ("model: llama", "no section `model`"),
        ("a: &a [1]\nb: *a\nmodel: {}", "aliases"),
        ("\x00", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("x" * (MAX_CONFIG_BYTES + 1), "more than"),
        ("a: !!int ''", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("? [a]\n: b", "not YAML"),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(BadConfiguration, match=why):
        read(text)


@given(
    st.one_of(
        st.text(max_size=300),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
            lambda inner: st.dictionaries(
                st.sampled_from([*LORA, *LORA["model"], "_component_", "packed"]), inner
            ),
            max_leaves=30,
        ).map(lambda value: yaml.safe_dump({"model": value, **value} if isinstance(value, dict) else value)),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        conditions = read(text).conditions
    except BadConfiguration:
        return
    assert set(conditions) <= set(FIELDS)


def test_our_own_configurations_tell_the_conditions_that_we_plan_with() -> None:
    spec = finetune_spec(model_name="tiny", model_path="/models/tiny")
    config = build_config(
        spec=spec,
        model_config=LLAMA_3_2_1B,
        weight_files=["m.safetensors"],
        output_dir=Path("/x"),
        on_gpu=True,
    )
    from_file = read(yaml.safe_dump(config), recipe_class=spec.recipe).conditions
    planned = of_finetune(spec=spec, config=LLAMA_3_2_1B, place=Place(device_kind="", on_gpu=True))
    assert from_file == {name: getattr(planned, name) for name in from_file}
    assert len(from_file) >= 18
