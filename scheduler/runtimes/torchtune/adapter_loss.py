"""The loss of a base model with an adapter applied by plain arithmetic, to compare with what a run logged.

    <ML python> adapter_loss.py --base DIR --adapter DIR --data FILE --split train --system-prompt "Capitalize ..."

It prints {"loss": mean over the tokens that are trained on, "rows": ..., "tokens": ...}. A fine-tune whose live weights were damaged
on the way logs one loss and leaves an adapter with another. Rows are tokenized by torchtune, the weights are
W + alpha / rank * B A in transformers' Llama, so nothing of torchtune's LoRA code takes part.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torchtune.data import InputOutputToMessages
from torchtune.models.llama3 import llama3_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

IGNORED = -100
BATCH = 64
PREFIX = "base_model.model."
Weights = dict[str, torch.Tensor]
Sample = tuple[list[int], list[int]]  # tokens and labels


def main() -> int:
    arguments = _arguments()
    logging.set_verbosity_error()
    weights = base_weights(arguments.base)
    if arguments.adapter is not None:
        apply_adapter(weights, arguments.adapter)
    model = _model(arguments.base, weights)
    samples = _samples(arguments)
    loss, tokens = mean_loss(model, samples)
    print(json.dumps({"loss": loss, "rows": len(samples), "tokens": tokens}))
    return 0


def base_weights(directory: Path) -> Weights:
    """All of a folder's weights; those of an adapter beside them are not applied."""
    weights: Weights = {}
    for path in sorted(directory.glob("*.safetensors")):
        if not path.name.startswith("adapter_"):
            weights |= {name: tensor.float() for name, tensor in load_file(path).items()}
    return weights


def apply_adapter(weights: Weights, directory: Path) -> None:
    config = json.loads((directory / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    adapter = load_file(directory / "adapter_model.safetensors")
    for name in (name for name in adapter if name.endswith(".lora_A.weight")):
        a, b = adapter[name].float(), adapter[name.replace(".lora_A.", ".lora_B.")].float()
        weights[name.removeprefix(PREFIX).replace(".lora_A.", ".")] += scale * (b @ a)


def mean_loss(model: Any, samples: list[Sample]) -> tuple[float, int]:
    total, tokens = 0.0, 0
    for start in range(0, len(samples), BATCH):
        inputs, labels = _padded(samples[start : start + BATCH])
        with torch.no_grad():
            logits = model(input_ids=inputs).logits[:, :-1]
        targets = labels[:, 1:]
        total += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        ).item()
        tokens += int((targets != IGNORED).sum())
    return total / tokens, tokens


def _model(directory: Path, weights: Weights) -> Any:
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or any(name != "lm_head.weight" for name in missing):
        raise SystemExit(f"The weights in {directory} do not fit its config.json: {[*missing, *unexpected]}")
    model.tie_weights()
    return model.eval()


def _samples(arguments: argparse.Namespace) -> list[Sample]:
    document = json.loads(arguments.data.read_text())
    rows = document if isinstance(document, list) else document[arguments.split]
    tokenizer = llama3_tokenizer(
        str(arguments.base / "original" / "tokenizer.model"),
        special_tokens_path=str(arguments.base / "tokenizer.json")
        if arguments.remap_special_tokens
        else None,
        max_seq_len=arguments.max_seq_len,
    )
    columns = {"input": arguments.input_column, "output": arguments.output_column}
    to_messages = InputOutputToMessages(column_map=columns, new_system_prompt=arguments.system_prompt)
    return [_sample(tokenizer(to_messages(row))) for row in rows[: arguments.limit]]


def _sample(tokenized: Any) -> Sample:
    tokens, masked = tokenized["tokens"], tokenized["mask"]
    return tokens, [IGNORED if hidden else token for token, hidden in zip(tokens, masked, strict=True)]


def _padded(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding comes last and is not scored, so a causal model needs no mask for it."""
    longest = max(len(tokens) for tokens, _ in samples)
    inputs = [tokens + [0] * (longest - len(tokens)) for tokens, _ in samples]
    labels = [labels + [IGNORED] * (longest - len(labels)) for _, labels in samples]
    return torch.tensor(inputs), torch.tensor(labels)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="without it, the base alone")
    parser.add_argument("--data", type=Path, required=True, help="JSON: a list of rows, or one list a split")
    parser.add_argument("--split", default="train")
    parser.add_argument("--input-column", default="input")
    parser.add_argument("--output-column", default="output")
    parser.add_argument("--system-prompt")
    parser.add_argument("--max-seq-len", type=int)
    parser.add_argument("--limit", type=int, help="the first so many rows")
    parser.add_argument(
        "--remap-special-tokens",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take the special tokens' ids from tokenizer.json",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
