"""Names of cells, derived from the factors that vary."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from experiments.documents import Problem

_SHORT = {
    "lora_rank": "rank",
    "learning_rate": "lr",
    "batch_size": "bs",
    "epochs": "ep",
    "max_seq_len": "len",
}
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")


def cell_name(levels: Mapping[str, Any], fallback: str) -> str:
    """`{model}_rank{lora_rank}` and so on: the model first, then every other factor with its level."""
    parts = [str(levels["model"])] if "model" in levels else []
    parts += [f"{_SHORT.get(factor, factor)}{level}" for factor, level in levels.items() if factor != "model"]
    return _ILLEGAL.sub("-", "_".join(parts)) or fallback


def control_name(model: str) -> str:
    return _ILLEGAL.sub("-", f"{model}_base")


def collisions(names: list[str]) -> list[Problem]:
    return [
        Problem("factors", f"{count} cells would be called {name!r}.", "Give levels that differ.")
        for name, count in Counter(names).items()
        if count > 1
    ]
