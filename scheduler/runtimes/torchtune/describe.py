"""What the torchtune installed here knows: the keys that each recipe reads, and the arguments that each component takes.

    <ML python> describe.py > experiments/recipes/torchtune_0_6_1.json

torchtune ignores a key that it does not know, so planning compares every configuration with this file. Components that
are not listed here are not on the allow-list.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torchtune
import yaml
from datasets.packaged_modules.json.json import JsonConfig
from datasets.packaged_modules.parquet.parquet import ParquetConfig

BUILT_IN = Path(torchtune.__file__).parent.parent / "recipes"
HERE = Path(__file__).resolve().parent
CONSTANTS = {"PROFILER_KEY": "profiler"}  # keys that the recipes write as a constant

RECIPES = {  # the name, and the configuration that torchtune ships for it
    "lora_finetune_single_device": "llama3_2/1B_lora_single_device",
    "lora_finetune_distributed": "llama3_2/1B_lora",
    "full_finetune_single_device": "llama3_2/1B_full_single_device",
    "full_finetune_distributed": "llama3_2/1B_full",
}
OURS = {  # the name, and the recipe that it builds on
    "lora_validating_single_device": "lora_finetune_single_device",
    "full_validating_single_device": "full_finetune_single_device",
}
VALIDATION = HERE / "validation.py"

COMPONENTS = {
    "model": [
        f"torchtune.models.{family}.{kind}{family}"
        for family in ("llama3", "llama3_1", "llama3_2")
        for kind in ("", "lora_")
    ],
    "tokenizer": ["torchtune.models.llama3.llama3_tokenizer"],
    "checkpointer": ["torchtune.training.FullModelHFCheckpointer"],
    "dataset": [
        "torchtune.datasets.instruct_dataset",
        "torchtune.datasets.chat_dataset",
        "text_columns.instruct_dataset",
    ],
    "optimizer": ["torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD"],
    "lr_scheduler": ["torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"],
    "loss": ["torchtune.modules.loss.CEWithChunkedOutputLoss", "torch.nn.CrossEntropyLoss"],
    "metric_logger": ["step_clock.StepClock"],
    "profiler": ["torchtune.training.setup_torch_profiler"],
}


def main() -> int:
    known = {name: _built_in(name, config) for name, config in RECIPES.items()}
    known |= {name: _merged(known[base], _keys_read([VALIDATION])) for name, base in OURS.items()}
    facts = {
        "torchtune": version("torchtune"),
        "recipes": {
            name: {kind: sorted(keys) for kind, keys in found.items()} for name, found in known.items()
        },
        "components": {
            section: {name: _parameters(name) for name in names} for section, names in COMPONENTS.items()
        },
    }
    print(json.dumps(facts, indent=1, sort_keys=True))
    return 0


Keys = dict[str, set[str]]


def _built_in(name: str, config: str) -> Keys:
    read = _keys_read([BUILT_IN / f"{name}.py"])
    shipped = set(yaml.safe_load((BUILT_IN / "configs" / f"{config}.yaml").read_text(encoding="utf-8")))
    return {"required": read["required"], "optional": (read["optional"] | shipped) - read["required"]}


def _keys_read(sources: Iterable[Path]) -> Keys:
    """`cfg.key` must be there; `cfg.get("key")` may be."""
    keys: Keys = {"required": set(), "optional": set()}
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and _is_configuration(node.value) and node.attr != "get":
                keys["required"].add(node.attr)
            elif isinstance(node, ast.Call) and _is_get(node.func):
                keys["optional"].add(_key(node.args[0]))
    keys["optional"] -= keys["required"]
    return keys


def _is_configuration(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "cfg"


def _is_get(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "get" and _is_configuration(node.value)


def _key(node: ast.expr) -> str:
    return CONSTANTS[node.id] if isinstance(node, ast.Name) else str(ast.literal_eval(node))


def _merged(base: Keys, own: Keys) -> Keys:
    required = base["required"] | own["required"]
    return {"required": required, "optional": (base["optional"] | own["optional"]) - required}


def _parameters(component: str) -> dict[str, list[str]]:
    """Names of its arguments; a dataset hands those that it does not know on to `datasets.load_dataset`."""
    module, _, name = component.rpartition(".")
    signature = inspect.signature(getattr(import_module(module), name))
    named = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    optional = {p.name for p in named if p.default is not p.empty}
    if "load_dataset_kwargs" in signature.parameters:
        optional |= _loading(datasets.load_dataset, JsonConfig, ParquetConfig)
    required = {p.name for p in named if p.default is p.empty}
    return {"required": sorted(required), "optional": sorted(optional - required)}


def _loading(load: Callable[..., Any], *configurations: Any) -> set[str]:
    taken = {name for name in inspect.signature(load).parameters if name not in ("path", "config_kwargs")}
    return taken | {field.name for kind in configurations for field in fields(kind)}


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))  # for the components of our own
    sys.exit(main())
