"""Which of torchtune's builders makes a model, and which models none makes."""

from typing import Any

import pytest

from experiments.torchtune_builders import SPECIAL_TOKENS, UnsupportedModel, builder, missing_special_tokens
from tests.unit.jobs import LLAMA

ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def built(**change: Any) -> dict[str, Any]:
    return builder({**LLAMA, **change})


@pytest.mark.parametrize(
    ("change", "component", "scale"),
    [
        ({}, "torchtune.models.llama3_2.lora_llama3_2", 32),
        ({"tie_word_embeddings": False, "rope_scaling": ROPE}, "torchtune.models.llama3_1.lora_llama3_1", 8),
        ({"tie_word_embeddings": False, "rope_scaling": None}, "torchtune.models.llama3.lora_llama3", None),
        ({"rope_scaling": None}, "torchtune.models.llama3_2.lora_llama3_2", 1),
    ],
)
def test_the_builder_follows_from_the_configuration(
    change: dict[str, Any], component: str, scale: int | None
) -> None:
    made = built(**change)
    assert (made["_component_"], made.get("scale_factor")) == (component, scale)


def test_newer_configurations_have_their_rope_in_one_place() -> None:
    made = built(rope_scaling=None, rope_theta=None, rope_parameters={**ROPE, "rope_theta": 123.0})
    assert (made["rope_base"], made["scale_factor"]) == (123, 8)


def test_what_a_configuration_leaves_out_is_as_transformers_has_it() -> None:
    bare = {key: value for key, value in LLAMA.items() if not key.startswith(("rope", "num_key"))}
    made = builder(bare)
    assert (made["rope_base"], made["num_kv_heads"], made["norm_eps"]) == (10_000, 2, 1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "qwen2"}, "model_type 'qwen2' is not supported; use a Llama model."),
        ({"head_dim": 96}, "head_dim 96 is not supported: torchtune takes"),
        ({"attention_bias": True}, "attention_bias is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "RoPE of the type 'linear' is not supported"),
        (
            {"rope_scaling": {**ROPE, "high_freq_factor": 8.0}},
            "RoPE with high_freq_factor 8.0 is not supported",
        ),
    ],
)
def test_what_torchtune_would_build_wrongly_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsupportedModel, match=sentence):
        built(**change)


def test_special_tokens_that_a_tokenizer_does_not_list_are_named() -> None:
    listed = [{"content": token} for token in SPECIAL_TOKENS if token != "<|step_id|>"]
    assert missing_special_tokens({"added_tokens": listed}) == ["<|step_id|>"]
