"""Which recipe a fine-tune takes: one device or several, with validation or without, an adapter or all weights."""

from experiments.documents import InvalidDocument, Problem
from experiments.recipes.known import RECIPES, Method, Recipe, named


def choose(*, method: Method, devices: int, validation: bool, asked: str | None) -> Recipe:
    """The recipe that was asked for, or the one that follows. Raises InvalidDocument with every contradiction."""
    recipe = named(asked, method=method) if asked else _following(method, devices, validation)
    problems = [*_about_method(recipe, method), *_about_devices(recipe, method, devices)]
    problems += _about_validation(recipe, devices, validation)
    if problems:
        raise InvalidDocument(problems)
    return recipe


def refused_on_cpu(recipe: Recipe | str, method: Method) -> str | None:
    """Why this cannot run without a GPU, and what can; None where it can."""
    known = named(recipe, method=method) if isinstance(recipe, str) else recipe
    if known.devices == "many":
        return (
            f"{known.name} cannot run on CPU: torchtune 0.6.1 starts its processes with NCCL, which needs GPUs. "
            "Ask for one device."
        )
    if method == "qlora":
        return (
            "QLoRA cannot run on CPU: its 4-bit weights need CUDA's kernels and bf16. Use the method lora, "
            "or a node with a GPU."
        )
    return None


def _following(method: Method, devices: int, validation: bool) -> Recipe:
    kind = "full" if method == "full" else "lora"
    if devices > 1:
        return RECIPES[f"{kind}_finetune_distributed"]
    return RECIPES[f"{kind}_validating_single_device" if validation else f"{kind}_finetune_single_device"]


def _about_method(recipe: Recipe, method: Method) -> list[Problem]:
    wanted = "weights" if method == "full" else "adapter"
    if recipe.trains == wanted:
        return []
    message = f"The recipe {recipe.name} trains {_trained(recipe)}, and the method is {method}."
    return [Problem("fixed.recipe", message, "Leave the recipe out, or change the method.")]


def _trained(recipe: Recipe) -> str:
    return "an adapter" if recipe.trains == "adapter" else "all weights"


def _about_devices(recipe: Recipe, method: Method, devices: int) -> list[Problem]:
    problems = []
    if recipe.devices == "one" and devices > 1:
        message = f"The recipe {recipe.name} uses one device, and {devices} are asked for."
        remedy = "Leave the recipe out, and the distributed one is taken, or ask for one device."
        problems.append(Problem("resources.devices", message, remedy))
    if recipe.devices == "many" and devices == 1:
        message = f"The recipe {recipe.name} is for several devices, and one is asked for."
        problems.append(
            Problem("resources.devices", message, "Leave the recipe out, or ask for more devices.")
        )
    if recipe.devices == "many" and method == "qlora":
        message = f"QLoRA runs on one device here, and {devices} are asked for."
        problems.append(Problem("fixed.method", message, "Use one device, or the method lora."))
    return problems


def _about_validation(recipe: Recipe, devices: int, validation: bool) -> list[Problem]:
    if recipe.validates == validation:
        return []
    if not validation:
        message = f"The recipe {recipe.name} validates, and no validation is asked for."
        return [Problem("fixed.recipe", message, "Leave the recipe out, or ask for validation.")]
    if devices > 1:
        message = "Validation while training runs on one device only."
        return [Problem("validation", message, "Use one device, or turn validation off.")]
    message = f"The recipe {recipe.name} does not validate."
    return [Problem("validation", message, "Leave the recipe out, or turn validation off.")]
