"""Tiny Llama checkpoints in Hugging Face layout that transformers, torchtune and vLLM all read."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

BYTES = 256
SPECIAL_TOKENS = [
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
    "<|video|>",
    *(f"<|reserved_special_token_{n}|>" for n in range(53)),
]
IDS = {token: BYTES + n for n, token in enumerate(SPECIAL_TOKENS)}
MAX_LENGTH = 16384
ROPE = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
# The format that torchtune's llama3 tokenizer gives to messages: roles and contents without surrounding space.
CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] | trim + '<|end_header_id|>\\n\\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int

    def torchtune(self) -> dict[str, Any]:
        return {
            "vocab_size": BYTES + len(SPECIAL_TOKENS),
            "num_layers": self.layers,
            "num_heads": self.heads,
            "num_kv_heads": self.kv_heads,
            "embed_dim": self.hidden,
            "intermediate_dim": self.mlp,
            "max_seq_len": MAX_LENGTH,
            "norm_eps": 1e-5,
            "rope_base": 500000,
            "scale_factor": 32,
            "tie_word_embeddings": True,
        }

    def huggingface(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": BYTES + len(SPECIAL_TOKENS),
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "hidden_act": "silu",
            "initializer_range": 0.05,
            "max_position_embeddings": MAX_LENGTH,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": {**ROPE, "original_max_position_embeddings": 8192},
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": IDS["<|begin_of_text|>"],
            "eos_token_id": [IDS["<|end_of_text|>"], IDS["<|eot_id|>"]],
            "pad_token_id": IDS["<|finetune_right_pad_id|>"],
            "torch_dtype": "bfloat16",
            "use_cache": True,
        }


def write_untrained(directory: Path, shape: Shape, *, seed: int) -> None:
    (directory / "original").mkdir(parents=True, exist_ok=True)
    _write_json(directory / "config.json", shape.huggingface())
    _write_json(directory / "generation_config.json", _generation_config())
    _write_json(directory / "tokenizer.json", _tokenizer())
    _write_json(directory / "tokenizer_config.json", _tokenizer_config())
    _write_json(directory / "special_tokens_map.json", _special_tokens_map())
    (directory / "original" / "tokenizer.model").write_text(_tiktoken())
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**shape.huggingface())).to(torch.float32)
    _write_weights(directory / "model.safetensors", dict(model.state_dict()))


def install(trained: Path, target: Path) -> None:
    """Copy a trained checkpoint to its place, in half the bytes."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "original").mkdir(parents=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(trained / name, target / name)
    for name in ("special_tokens_map.json", "original/tokenizer.model"):
        shutil.copyfile(trained / name, target / name)
    weights = load_file(trained / "model-00001-of-00001.safetensors")
    _write_weights(
        target / "model.safetensors", {key: value.to(torch.bfloat16) for key, value in weights.items()}
    )


def _write_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    weights.pop("lm_head.weight", None)  # tied to the embedding
    temporary = path.with_suffix(".tmp")
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, temporary, metadata={"format": "pt"}
    )
    temporary.chmod(0o644)  # safetensors writes for the owner only
    temporary.replace(path)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tokenizer() -> dict[str, Any]:
    bos = IDS["<|begin_of_text|>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    first, text = (
        {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    )
    return {
        "version": "1.0",
        "added_tokens": [{"id": n, "content": token, **flags} for token, n in IDS.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text],
            "pair": [first, text, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                "<|begin_of_text|>": {
                    "id": "<|begin_of_text|>",
                    "ids": [bos],
                    "tokens": ["<|begin_of_text|>"],
                }
            },
        },
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {c: n for n, c in enumerate(_byte_characters())}, "merges": []},
    }


def _byte_characters() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(BYTES)]


def _tiktoken() -> str:
    return "".join(f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(BYTES))


def _special_tokens_map() -> dict[str, str]:
    return {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>",
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        **_special_tokens_map(),
    }


def _generation_config() -> dict[str, Any]:
    eos = [IDS["<|end_of_text|>"], IDS["<|eot_id|>"]]
    return {"bos_token_id": IDS["<|begin_of_text|>"], "eos_token_id": eos, "do_sample": False}
