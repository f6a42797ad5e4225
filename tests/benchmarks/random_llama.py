"""Llama checkpoints of any shape with random weights, in Hugging Face layout. It runs in the ML environment.

What training costs depends on shapes and lengths, not on what the weights or the rows mean, so random weights
measure as well as real ones. The tokenizer is that of the demo's models: a token a byte, whatever the vocabulary.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

TOKENIZER_FROM = Path(__file__).resolve().parents[2] / "experiments" / "demo" / "models" / "tiny-llama-s"
TOKENIZER_FILES = (
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "original/tokenizer.model",
)
SPREAD = 0.02  # of the weights: the losses stay finite


@dataclass(frozen=True, kw_only=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int

    def config(self, precision: str) -> dict[str, Any]:
        """A config.json: the demo's, with these numbers."""
        demo = json.loads((TOKENIZER_FROM / "config.json").read_text())
        return demo | {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.mlp,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": True,
            "torch_dtype": precision,
        }

    def weights(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            yield f"{name}.self_attn.q_proj.weight", (queries, self.hidden)
            yield f"{name}.self_attn.k_proj.weight", (keys, self.hidden)
            yield f"{name}.self_attn.v_proj.weight", (keys, self.hidden)
            yield f"{name}.self_attn.o_proj.weight", (self.hidden, queries)
            yield f"{name}.mlp.gate_proj.weight", (self.mlp, self.hidden)
            yield f"{name}.mlp.up_proj.weight", (self.mlp, self.hidden)
            yield f"{name}.mlp.down_proj.weight", (self.hidden, self.mlp)
            yield f"{name}.input_layernorm.weight", (self.hidden,)
            yield f"{name}.post_attention_layernorm.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)


def write(directory: Path, shape: Shape, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
    """One that is there already is kept: its weights file is written last."""
    if (directory / "model.safetensors").exists():
        return
    (directory / "original").mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(TOKENIZER_FROM / name, directory / name)
    config = shape.config(str(dtype).removeprefix("torch."))
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generator = torch.Generator().manual_seed(seed)
    weights = {name: _weight(size, dtype, generator) for name, size in shape.weights()}
    save_file(weights, directory / "writing", metadata={"format": "pt"})
    (directory / "writing").rename(directory / "model.safetensors")


def _weight(size: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if len(size) == 1:
        return torch.ones(size, dtype=dtype)
    return torch.empty(size, dtype=dtype).normal_(0.0, SPREAD, generator=generator)
