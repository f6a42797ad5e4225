"""Which torchtune configuration is let through.

torchtune ignores keys that it does not know, and a `_component_` is any dotted path: both are decided here,
before anything is queued.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.documents import InvalidDocument, Problem, nearest
from experiments.recipes.known import COMPONENTS, OWN_KEY, Component, Recipe, named

_CHOSEN_SECTIONS = ("optimizer", "lr_scheduler", "loss")  # a document may choose their components
_SETTABLE = frozenset(
    {
        "clip_grad_norm",
        "compile",
        "dtype",
        "enable_activation_checkpointing",
        "enable_activation_offloading",
        "fsdp_cpu_offload",
        "fsdp_reshard_after_forward",
        "low_cpu_ram",
        "optimizer_in_bwd",
        "shuffle",
    }
)
_LORA = ("lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_dropout", "use_dora")
_GIVEN_BY_THE_RECIPE: Mapping[str, frozenset[str]] = {  # arguments that no configuration can hold
    "optimizer": frozenset({"params"}),
    "lr_scheduler": frozenset({"optimizer", "num_training_steps", "last_epoch"}),
    "dataset": frozenset({"tokenizer"}),
    "checkpointer": frozenset({"should_load_recipe_state"}),
}
_PRECISIONS = ("bf16", "fp32")


def check(recipe: Recipe | str, overrides: Mapping[str, Any]) -> list[Problem]:
    """Every reason why this recipe must not be run with these overrides of a document."""
    try:
        known = named(recipe) if isinstance(recipe, str) else recipe
    except InvalidDocument as unknown:
        return unknown.problems
    return [problem for key, value in flatten(overrides).items() for problem in _check_key(known, key, value)]


def check_config(recipe: Recipe | str, config: Mapping[str, Any]) -> list[Problem]:
    """Every reason why torchtune would refuse this whole configuration, or ignore a part of it."""
    known = named(recipe) if isinstance(recipe, str) else recipe
    problems = [
        Problem(_path(key), f"{value!r} is an interpolation.", "Write the value itself.")
        for key, value in flatten(config).items()
        if "${" in f"{value}"
    ]
    problems += _check_keys(known, config)
    for key in sorted(known.known_keys & set(config) - {OWN_KEY}):
        problems += _check_section(key, config[key])
    return problems + list(_contradictions(config))


def flatten(overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested or dotted overrides as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        dotted = f"{prefix}{key}"
        flat.update(flatten(value, f"{dotted}.") if isinstance(value, Mapping) else {dotted: value})
    return flat


def _check_key(recipe: Recipe, key: str, value: Any) -> list[Problem]:
    if "${" in f"{value}":
        return [Problem(_path(key), f"{value!r} is an interpolation.", "Write the value itself.")]
    section, _, last = key.rpartition(".")
    if recipe.is_own and key.startswith(f"{OWN_KEY}."):
        return []
    if last == "_component_":
        return _check_component(section, value)
    if key in (settable := _settable(recipe)):
        return []
    message = f"The recipe {recipe.name} has no key {key!r} that a document may set."
    return [Problem(_path(key), message, nearest(key, sorted(settable)))]


def _settable(recipe: Recipe) -> frozenset[str]:
    sections = {
        f"{section}.{argument}"
        for section in _CHOSEN_SECTIONS
        for component in COMPONENTS[section].values()
        for argument in component.arguments - _GIVEN_BY_THE_RECIPE.get(section, frozenset())
    }
    adapter = {f"model.{name}" for name in _LORA} if recipe.trains == "adapter" else set()
    return frozenset(_SETTABLE & recipe.known_keys) | sections | adapter | {"dataset.train_on_input"}


def _check_component(section: str, value: Any) -> list[Problem]:
    allowed = COMPONENTS[section] if section in _CHOSEN_SECTIONS else {}
    if isinstance(value, str) and value in allowed:
        return []
    choice = f"Use one of {', '.join(sorted(allowed))}." if allowed else "Leave it out: labmgr sets it."
    path = _path(f"{section}._component_")
    return [Problem(path, f"The component {value!r} is not on the allow-list.", choice)]


def _check_keys(recipe: Recipe, config: Mapping[str, Any]) -> list[Problem]:
    unknown = [
        Problem(
            _path(key),
            f"The recipe {recipe.name} ignores the key {key!r}.",
            nearest(key, sorted(recipe.known_keys)),
        )
        for key in config
        if key not in recipe.known_keys
    ]
    missing = [
        Problem(
            _path(key), f"The recipe {recipe.name} needs the key {key!r}.", "Add it, also where it is null."
        )
        for key in sorted(recipe.required_keys - set(config))
    ]
    return unknown + missing


def _check_section(key: str, value: Any) -> list[Problem]:
    section = "dataset" if key == "dataset_val" else key
    if not isinstance(value, Mapping):
        expected = section in COMPONENTS
        return (
            [Problem(_path(key), f"{value!r} is no component.", "Give it a _component_.")] if expected else []
        )
    if section not in COMPONENTS:
        return [Problem(_path(key), "A section of settings is not expected here.", "Give a single value.")]
    name = str(value.get("_component_"))
    if name not in COMPONENTS[section]:
        known = f"Use one of {', '.join(sorted(COMPONENTS[section]))}."
        return [
            Problem(_path(f"{key}._component_"), f"The component {name!r} is not on the allow-list.", known)
        ]
    given = _GIVEN_BY_THE_RECIPE.get(section, frozenset())
    return _check_arguments(key, name, COMPONENTS[section][name], given, value)


def _check_arguments(
    key: str, name: str, component: Component, given: frozenset[str], value: Mapping[str, Any]
) -> list[Problem]:
    arguments = component.arguments - given
    found = [argument for argument in value if argument != "_component_"]
    unknown = [
        Problem(
            _path(f"{key}.{argument}"), f"{name} takes no {argument!r}.", nearest(argument, sorted(arguments))
        )
        for argument in found
        if argument not in arguments
    ]
    missing = [
        Problem(_path(f"{key}.{argument}"), f"{name} needs {argument!r}.", "Add it.")
        for argument in sorted(component.required - given - set(found))
    ]
    return unknown + missing


def _contradictions(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What the recipes raise at their start."""
    if (precision := config.get("dtype")) not in _PRECISIONS:
        message = f"torchtune trains in no precision {precision!r}."
        yield Problem(_path("dtype"), message, f"Use one of {', '.join(_PRECISIONS)}.")
    if config.get("enable_activation_offloading"):
        if not config.get("enable_activation_checkpointing"):
            message = "Activation offloading works with activation checkpointing only."
            yield Problem(_path("enable_activation_offloading"), message, "Turn both on, or both off.")
        if config.get("device") == "cpu":
            message = "Activation offloading moves activations from a GPU, and this runs on a CPU."
            yield Problem(_path("enable_activation_offloading"), message, "Turn it off.")
    if config.get("optimizer_in_bwd"):
        yield from _optimizer_in_backward(config)


def _optimizer_in_backward(config: Mapping[str, Any]) -> Iterator[Problem]:
    path = _path("optimizer_in_bwd")
    if config.get("gradient_accumulation_steps", 1) > 1:
        remedy = "Turn it off, or accumulate over 1 step."
        yield Problem(
            path, "With the optimizer in the backward pass gradients cannot be accumulated.", remedy
        )
    if config.get("clip_grad_norm") is not None:
        remedy = "Turn it off, or leave clip_grad_norm out."
        yield Problem(path, "With the optimizer in the backward pass gradients cannot be clipped.", remedy)


def _path(key: str) -> str:
    return f"fixed.torchtune.{key}"
