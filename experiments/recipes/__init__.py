"""Recipes: which one a fine-tune takes, what it may be told, and whether a configuration is one that it understands."""

from experiments.recipes.checking import check, check_config, flatten
from experiments.recipes.choosing import choose, refused_on_cpu
from experiments.recipes.known import COMPONENTS, RECIPES, Recipe, is_own, named, own_file

__all__ = [
    "COMPONENTS",
    "RECIPES",
    "Recipe",
    "check",
    "check_config",
    "choose",
    "flatten",
    "is_own",
    "named",
    "own_file",
    "refused_on_cpu",
]
