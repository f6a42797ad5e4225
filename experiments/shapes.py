"""The shape of a model: what time and memory depend on, whatever its weights and its name."""

from collections.abc import Iterable, Mapping
from typing import Any

_ATTENTION = ("q_proj", "k_proj", "v_proj", "output_proj")


def describe(config: Mapping[str, Any]) -> str:
    """`llama h2048 l16 q32 kv8 i8192 v128256 tied` from a Hugging Face config.json; empty where it lacks a number."""
    try:
        heads = config["num_attention_heads"]
        parts = [
            str(config["model_type"]),
            f"h{config['hidden_size']}",
            f"l{config['num_hidden_layers']}",
            f"q{heads}",
            f"kv{config.get('num_key_value_heads') or heads}",
            f"i{config['intermediate_size']}",
            f"v{config['vocab_size']}",
        ]
    except KeyError:
        return ""
    return " ".join([*parts, "tied"] if config.get("tie_word_embeddings") else parts)


def size_label(parameter_count: int) -> str:
    """What people call a model of so many parameters: 1B, 3B, 135M, 70B."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if parameter_count >= unit * 0.95:
            return f"{max(1, round(parameter_count / unit))}{name}"
    return str(parameter_count)


def lora_parameters(config: Mapping[str, Any], *, rank: int, modules: Iterable[str]) -> int:
    """Trainable parameters of an adapter: for each target matrix, rank * (inputs + outputs).

    `modules` are torchtune's names; "mlp" stands for the three matrices of the feed-forward block, "output" for
    the output projection to the vocabulary.
    """
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    keys = head_dim * (config.get("num_key_value_heads") or heads)
    ends = {
        "q_proj": hidden + heads * head_dim,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "output_proj": heads * head_dim + hidden,
        "mlp": 3 * (hidden + mlp),
    }
    chosen = set(modules)
    layers: int = config["num_hidden_layers"]
    total = layers * sum(ends[name] for name in chosen if name in ends)
    return rank * int(total + (hidden + config["vocab_size"] if "output" in chosen else 0))
