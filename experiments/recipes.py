"""Which torchtune configuration a document may ask for.

torchtune ignores keys that it does not know, and a `_component_` is any dotted path: both are decided here,
before anything is queued.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.documents import Problem, nearest

ALLOWED_COMPONENTS: Mapping[str, frozenset[str]] = {
    "optimizer": frozenset({"torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD"}),
    "lr_scheduler": frozenset({"torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"}),
    "loss": frozenset({"torchtune.modules.loss.CEWithChunkedOutputLoss", "torch.nn.CrossEntropyLoss"}),
}

_OPTIMIZER_KEYS = {"weight_decay", "lr", "betas", "eps", "fused", "momentum", "nesterov", "amsgrad"}
_MODEL_KEYS = {"lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_dropout", "use_dora"}


@dataclass(frozen=True)
class Recipe:
    name: str
    devices: str  # "one" or "many"
    known_keys: frozenset[str]  # dotted keys that a document may set


def _keys(section: str, names: set[str]) -> set[str]:
    return {f"{section}.{name}" for name in names}


LORA_SINGLE_DEVICE = Recipe(
    name="lora_finetune_single_device",
    devices="one",
    known_keys=frozenset(
        {
            "clip_grad_norm",
            "compile",
            "dtype",
            "enable_activation_checkpointing",
            "enable_activation_offloading",
        }
        | {"shuffle", "dataset.train_on_input"}
        | _keys("optimizer", {"_component_"} | _OPTIMIZER_KEYS)
        | _keys("lr_scheduler", {"_component_", "num_warmup_steps", "num_cycles"})
        | _keys("loss", {"_component_", "num_output_chunks", "ignore_index"})
        | _keys("model", _MODEL_KEYS)
    ),
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (LORA_SINGLE_DEVICE,)}


def check(recipe_name: str, overrides: Mapping[str, Any]) -> list[Problem]:
    """Every reason why this recipe must not be run with these overrides."""
    if recipe_name not in RECIPES:
        return [
            Problem("fixed.recipe", f"Unknown recipe {recipe_name!r}.", nearest(recipe_name, list(RECIPES)))
        ]
    flat = flatten(overrides)
    return [
        problem for key, value in flat.items() for problem in _check_key(RECIPES[recipe_name], key, value)
    ]


def flatten(overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested or dotted overrides as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        dotted = f"{prefix}{key}"
        flat.update(flatten(value, f"{dotted}.") if isinstance(value, Mapping) else {dotted: value})
    return flat


def _check_key(recipe: Recipe, key: str, value: Any) -> list[Problem]:
    path = f"fixed.torchtune.{key}"
    if "${" in f"{value}":
        return [Problem(path, f"{value!r} is an interpolation.", "Write the value itself.")]
    section, _, last = key.rpartition(".")
    if last == "_component_":
        return _check_component(path, section, value)
    if key not in recipe.known_keys:
        remedy = nearest(key, sorted(recipe.known_keys))
        return [
            Problem(path, f"The recipe {recipe.name} has no key {key!r} that a document may set.", remedy)
        ]
    return []


def _check_component(path: str, section: str, value: Any) -> list[Problem]:
    allowed = ALLOWED_COMPONENTS.get(section, frozenset())
    if value in allowed:
        return []
    choice = f"Use one of {', '.join(sorted(allowed))}." if allowed else "Leave it out: labmgr sets it."
    return [Problem(path, f"The component {value!r} is not on the allow-list.", choice)]
