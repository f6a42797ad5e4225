"""Which builder of torchtune 0.6.1 makes a model, and with which arguments, from its config.json."""

from collections.abc import Mapping
from typing import Any

LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

LLAMA3_VOCABULARY = 128_256
SPECIAL_TOKENS = (  # that torchtune's tokenizer looks up when it is made
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)


class UnsupportedModel(Exception):
    """torchtune 0.6.1 has no builder for this model, or labmgr does not know it."""


def builder(config: Mapping[str, Any]) -> dict[str, Any]:
    """The LoRA builder as `_component_` and its arguments. config.json is Hugging Face's LlamaConfig.

    Raises UnsupportedModel.
    """
    _refuse_what_llama_builders_lack(config)
    rope = _rope(config)
    arguments = {
        "vocab_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "num_kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "embed_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "max_seq_len": config.get("max_position_embeddings", 2048),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "rope_base": int(rope.get("rope_theta", config.get("rope_theta", 10_000))),
    }
    is_scaled = _rope_type(rope) == "llama3"
    if config.get("tie_word_embeddings"):
        # This one always scales; by 1 is not at all.
        scale = {"scale_factor": int(rope["factor"]) if is_scaled else 1, "tie_word_embeddings": True}
        return {"_component_": "torchtune.models.llama3_2.lora_llama3_2", **arguments, **scale}
    if is_scaled:
        scale = {"scale_factor": int(rope["factor"])}
        return {"_component_": "torchtune.models.llama3_1.lora_llama3_1", **arguments, **scale}
    return {"_component_": "torchtune.models.llama3.lora_llama3", **arguments}


def missing_special_tokens(tokenizer: Mapping[str, Any]) -> list[str]:
    """Those that a tokenizer.json does not list, so that it cannot be torchtune's `special_tokens_path`.

    Llama 3's own lists lack some; torchtune's built-in numbers, which are Llama 3's, are right for it then.
    """
    listed = {token["content"] for token in tokenizer.get("added_tokens", [])}
    return [token for token in SPECIAL_TOKENS if token not in listed]


def _refuse_what_llama_builders_lack(config: Mapping[str, Any]) -> None:
    family = config.get("model_type")
    if family != "llama":
        raise UnsupportedModel(f"model_type {family!r} is not supported; use a Llama model.")
    heads = config["num_attention_heads"]
    if config.get("head_dim") not in (None, config["hidden_size"] // heads):
        raise UnsupportedModel(
            f"head_dim {config['head_dim']} is not supported: torchtune takes hidden_size over the number of heads, "
            f"which is {config['hidden_size'] // heads}; use another model."
        )
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            raise UnsupportedModel(f"{name} is not supported: torchtune's Llama has none; use another model.")
    if config.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(
            f"hidden_act {config['hidden_act']!r} is not supported; use a model with 'silu'."
        )
    _refuse_other_rope(_rope(config))


def _refuse_other_rope(rope: Mapping[str, Any]) -> None:
    kind = _rope_type(rope)
    if kind not in ("default", "llama3"):
        raise UnsupportedModel(
            f"RoPE of the type {kind!r} is not supported; use a model with 'llama3' or none."
        )
    for name, built_in in LLAMA3_ROPE.items():
        if kind == "llama3" and rope.get(name, built_in) != built_in:
            raise UnsupportedModel(
                f"RoPE with {name} {rope[name]} is not supported: torchtune takes {built_in:g}."
            )


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Newer versions of transformers write `rope_parameters`."""
    rope: Mapping[str, Any] = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return rope


def _rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")
