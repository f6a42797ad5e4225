"""Models, and the rows' lengths as torchtune makes batches of them. It runs in the ML environment, once for all runs.

    <ML python> -m tests.benchmarks.finetune_inputs REQUEST.json ANSWER.json

REQUEST: {"models": {directory: shape}, "dtype": of the weights, "configs": {name: a torchtune configuration}}.
ANSWER: {name: {"row_tokens": [...], "samples": rows or packs, "batch_lengths": [[...] an epoch]}}.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler
from torchtune import config as torchtune_config

from tests.benchmarks import random_llama


def main(request_path: Path, answer_path: Path) -> None:
    request = json.loads(request_path.read_text())
    dtype = getattr(torch, request["dtype"])
    for directory, shape in request["models"].items():
        random_llama.write(Path(directory), random_llama.Shape(**shape), dtype=dtype)
    answer = {name: batches(config) for name, config in request["configs"].items()}
    answer_path.write_text(json.dumps(answer))


def batches(config: dict[str, Any]) -> dict[str, Any]:
    """The padded length of every micro-batch in order, by torchtune's own tokenizer, dataset and sampler."""
    row_tokens = sample_lengths(config, packed=False)
    lengths = sample_lengths(config, packed=True) if config["dataset"]["packed"] else row_tokens
    sampler = StatefulDistributedSampler(lengths, num_replicas=1, rank=0, shuffle=config["shuffle"], seed=0)
    return {
        "row_tokens": row_tokens,
        "samples": len(lengths),
        "batch_lengths": [
            _epoch(sampler, lengths, config["batch_size"], epoch) for epoch in range(config["epochs"])
        ],
    }


def sample_lengths(config: dict[str, Any], *, packed: bool) -> list[int]:
    settings = OmegaConf.create(copy.deepcopy(config))
    settings.dataset.packed = packed
    tokenizer = torchtune_config.instantiate(settings.tokenizer)
    return [len(sample["tokens"]) for sample in torchtune_config.instantiate(settings.dataset, tokenizer)]


def _epoch(sampler: Any, lengths: list[int], batch_size: int, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    order = list(sampler)
    whole = len(order) // batch_size * batch_size
    return [
        max(lengths[index] for index in order[start : start + batch_size])
        for start in range(0, whole, batch_size)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
