"""What a checked document names: models, recipe files of the lab's own."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.documents.schema import ExperimentDocument

ADAPTER = "adapter"  # in an explicit cell: evaluate one that is there
CHOSEN = ("model", "dataset", "prompt")  # what a cell is made from, beside its settings


def models_named(document: ExperimentDocument) -> list[str]:
    """Every model of its cells, once."""
    return _models(document, document.cells)


def models_trained(document: ExperimentDocument) -> list[str]:
    """Those that are fine-tuned, and not only evaluated with an adapter that is there."""
    return _models(document, [cell for cell in document.cells if ADAPTER not in cell])


def has_crossed_cells(document: ExperimentDocument) -> bool:
    """Whether the factors make cells of their own, beside those that are listed."""
    return bool(document.factors) or not document.cells


def own_recipes(document: ExperimentDocument) -> list[str]:
    """Recipe files of the lab's own that it names."""
    return list(dict.fromkeys(name for name in _recipes(document) if str(name).endswith(".py")))


def by_model(key: str, value: Any) -> bool:
    """Whether a fixed setting is given for each model; torchtune's keys are a mapping of another kind."""
    return isinstance(value, Mapping) and key != "torchtune"


def _models(document: ExperimentDocument, cells: Any) -> list[str]:
    named = [*document.factors.get("model", ()), *(cell.get("model") for cell in cells)]
    if "model" in document.fixed:
        named = [document.fixed["model"], *named]
    return [name for name in dict.fromkeys(named) if isinstance(name, str)]


def _recipes(document: ExperimentDocument) -> Iterator[Any]:
    fixed = document.fixed.get("recipe")
    yield from fixed.values() if isinstance(fixed, Mapping) else [fixed]
    yield from document.factors.get("recipe", ())
    yield from (cell.get("recipe") for cell in document.cells)
