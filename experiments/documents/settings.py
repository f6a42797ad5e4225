"""The settings of one cell: the lab's defaults, then what is fixed, then the levels of its factors."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from experiments.defaults import Defaults
from experiments.documents.named import ADAPTER, CHOSEN, by_model
from experiments.documents.problems import InvalidDocument, refused
from experiments.documents.schema import ExperimentDocument, TrainingSettings
from experiments.documents.wording import problems_of


def training_settings(
    document: ExperimentDocument,
    levels: Mapping[str, Any],
    *,
    defaults: Defaults,
    parameter_count: int | None = None,
) -> TrainingSettings:
    """Raises InvalidDocument."""
    merged = {**defaults.settings(parameter_count), **said_settings(document, levels)}
    merged.setdefault("lora_alpha", defaults.lora_alpha_over_rank * merged["lora_rank"])
    try:
        settings = TrainingSettings.model_validate(merged)
    except ValidationError as error:
        raise InvalidDocument(problems_of(error, prefix="fixed")) from error
    if settings.method == "full" and "lora_rank" in levels:
        message = "A full fine-tune has no adapter, so a rank says nothing of it."
        remedy = "Exclude it, and list full fine-tunes under cells, without a rank."
        raise refused("factors.lora_rank", message, remedy)
    return settings


def said_settings(document: ExperimentDocument, levels: Mapping[str, Any]) -> dict[str, Any]:
    """What the document says of a cell, its settings by model resolved."""
    model = levels.get("model", document.fixed.get("model"))
    fixed = {
        key: value[model] if by_model(key, value) else value
        for key, value in document.fixed.items()
        if not by_model(key, value) or model in value
    }
    merged = {**fixed, **levels}
    return {key: value for key, value in merged.items() if key not in (*CHOSEN, ADAPTER)}
