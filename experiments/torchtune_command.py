"""The argument list of a fine-tune, as it is run in its own folder."""

from collections.abc import Sequence
from pathlib import PurePath

from experiments.recipes import Recipe
from experiments.specs import FinetuneSpec

CONFIG = "finetune.yaml"
CODE = "code"  # copies of the modules that the configuration names
OWN = f"{CODE}/own"  # a lab's own recipe, apart from them
REPEAT = "repeat"


def arguments(*, python: str, spec: FinetuneSpec, recipe: Recipe) -> tuple[str, ...]:
    """torchtune's own command by the recipe's name, or the recipe's file."""
    if recipe.is_script:
        return (python, script_of(spec, recipe), "--config", CONFIG)
    return (python, "-m", "torchtune._cli.tune", "run", *_processes(spec), recipe.name, "--config", CONFIG)


def script_of(spec: FinetuneSpec, recipe: Recipe) -> str:
    if spec.recipe_file is not None:
        return f"{OWN}/{PurePath(spec.recipe_file).name}"
    return f"{CODE}/{recipe.name}.py"


def repeating(argv: Sequence[str]) -> tuple[str, ...]:
    """The same, with all that it writes in a folder of its own."""
    return (
        *argv,
        f"output_dir={REPEAT}",
        f"checkpointer.output_dir={REPEAT}",
        f"metric_logger.log_dir={REPEAT}/logs",
    )


def _processes(spec: FinetuneSpec) -> tuple[str, ...]:
    """`--standalone` meets on a free port, so that two jobs of a machine never take one another's."""
    if spec.world_size == 1:
        return ()
    return ("--standalone", "--nnodes", "1", "--nproc_per_node", str(spec.world_size))
