"""Which model a torchtune 0.6.1 builder makes: the inverse of experiments.torchtune_builders, for Llama's families."""

from collections.abc import Mapping
from typing import Any

_ARGUMENTS = {
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "intermediate_dim": "intermediate_size",
    "vocab_size": "vocab_size",
}
_FAMILIES = ("llama2", "llama3", "llama3_1", "llama3_2")
_TIES = "llama3_2"  # the one whose builder ties its embeddings, unless it is told not to
_MAX_SIZE = 2**24

# torchtune/models/llama*/_model_builders.py: vocabulary, layers, heads, key heads, hidden, feed-forward
_SIZES: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "llama2_7b": (32_000, 32, 32, 32, 4096, 11008),
    "llama2_13b": (32_000, 40, 40, 40, 5120, 13824),
    "llama2_70b": (32_000, 80, 64, 8, 8192, 28672),
    "llama3_8b": (128_256, 32, 32, 8, 4096, 14336),
    "llama3_70b": (128_256, 80, 64, 8, 8192, 28672),
    "llama3_1_8b": (128_256, 32, 32, 8, 4096, 14336),
    "llama3_1_70b": (128_256, 80, 64, 8, 8192, 28672),
    "llama3_1_405b": (128_256, 126, 128, 8, 16384, 53248),
    "llama3_2_1b": (128_256, 16, 32, 8, 2048, 8192),
    "llama3_2_3b": (128_256, 28, 24, 8, 3072, 8192),
    "llama3_3_70b": (128_256, 80, 64, 8, 8192, 28672),
}
_ORDER = ("vocab_size", "num_layers", "num_heads", "num_kv_heads", "embed_dim", "intermediate_dim")


def model_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's config.json would say of its shape; empty where the builder does not tell it."""
    builder = str(model.get("_component_", "")).rpartition(".")[2]
    builder = builder.removeprefix("q").removeprefix("lora_")
    if builder in _SIZES:
        return _config(dict(zip(_ORDER, _SIZES[builder], strict=True)), tied=builder.startswith(_TIES))
    if builder not in _FAMILIES:
        return {}
    sizes = {name: model.get(name) for name in _ARGUMENTS}
    if not all(type(size) is int and 0 < size < _MAX_SIZE for size in sizes.values()):
        return {}
    return _config(sizes, tied=builder == _TIES and model.get("tie_word_embeddings", True) is True)


def _config(sizes: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    config: dict[str, Any] = {theirs: sizes[ours] for ours, theirs in _ARGUMENTS.items()}
    return {"model_type": "llama", "tie_word_embeddings": tied, **config}
