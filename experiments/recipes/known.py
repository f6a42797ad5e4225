"""The recipes there are, and what torchtune 0.6.1 knows of each: the keys that it reads, the arguments of components.

What torchtune knows was printed by scheduler/runtimes/torchtune/describe.py in the ML environment. Components that
are not in it are not on the allow-list.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.documents import InvalidDocument, Problem, nearest

Method = Literal["lora", "qlora", "full"]

_FACTS: Mapping[str, Any] = json.loads((Path(__file__).parent / "torchtune_0_6_1.json").read_text())
OWN_KEY = "own"  # a lab's recipe may be told anything beneath it


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    trains: Literal["adapter", "weights"]
    devices: Literal["one", "many"]
    required_keys: frozenset[str]
    known_keys: frozenset[str]  # of the configuration's first level, the required ones among them
    validates: bool = False
    is_own: bool = False  # a lab's own file, named by its path under a recipe root

    @property
    def is_script(self) -> bool:
        """Whether it is run as a file, and not by torchtune's own command by its name."""
        return self.validates or self.is_own


@dataclass(frozen=True)
class Component:
    required: frozenset[str]
    arguments: frozenset[str]  # the required ones among them


def _recipe(name: str) -> Recipe:
    keys = _FACTS["recipes"][name]
    required = frozenset(keys["required"])
    return Recipe(
        name=name,
        trains="weights" if name.startswith("full_") else "adapter",
        devices="many" if name.endswith("_distributed") else "one",
        required_keys=required,
        known_keys=required | set(keys["optional"]),
        validates="_validating_" in name,
    )


RECIPES: Mapping[str, Recipe] = {name: _recipe(name) for name in _FACTS["recipes"]}

COMPONENTS: Mapping[str, Mapping[str, Component]] = {
    section: {
        name: Component(frozenset(known["required"]), frozenset(known["required"] + known["optional"]))
        for name, known in components.items()
    }
    for section, components in _FACTS["components"].items()
}


def is_own(name: str) -> bool:
    """Whether this is a lab's own recipe file, which needs the permission experiments.run_own_recipes."""
    return name.endswith(".py")


def named(name: str, *, method: Method = "lora") -> Recipe:
    """Raises InvalidDocument for a name that no recipe has."""
    if is_own(name):
        return _own(name, method)
    if name in RECIPES:
        return RECIPES[name]
    raise InvalidDocument(
        [Problem("fixed.recipe", f"Unknown recipe {name!r}.", nearest(name, list(RECIPES)))]
    )


def own_file(name: str, roots: Iterable[Path]) -> Path:
    """Where a lab's own recipe lies, links resolved, under one of the declared roots. Raises InvalidDocument."""
    roots = [root.resolve() for root in roots]
    for root in roots:
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    listed = ", ".join(str(root) for root in roots)
    there = sorted(str(file.relative_to(root)) for root in roots for file in root.glob("**/*.py"))
    message = f"The recipe {name!r} is not there under the declared roots ({listed})."
    remedy = nearest(name, there) if there else "Put the file there, or declare its folder in RECIPE_ROOTS."
    raise InvalidDocument([Problem("fixed.recipe", message, remedy)])


def _own(name: str, method: Method) -> Recipe:
    """Its keys are those of the recipe that it stands in for, plus whatever it reads beneath `own`."""
    base = RECIPES["full_finetune_single_device" if method == "full" else "lora_finetune_single_device"]
    return Recipe(
        name=name,
        trains=base.trains,
        devices="one",
        required_keys=base.required_keys,
        known_keys=base.known_keys | {OWN_KEY},
        is_own=True,
    )
