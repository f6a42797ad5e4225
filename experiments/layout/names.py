"""What each cell is called."""

from collections.abc import Iterable, Mapping
from typing import Any

from experiments import naming
from experiments.documents import ADAPTER, ExperimentDocument, TrainingSettings
from experiments.layout.material import ONLY, Chosen, Material
from experiments.shapes import size_label

_SIZE = "size"


def check(document: ExperimentDocument) -> None:
    """Raises InvalidDocument for a template that cannot name the cells."""
    if document.name_template is None:
        return
    known = {*document.factors, *(key for cell in document.cells for key in cell if key != ADAPTER)}
    if document.seeds:
        known.add("seed")
    if document.trains:
        known |= {_SIZE, "model", *TrainingSettings.model_fields} - {"torchtune"}
        known |= {"dataset"} if document.datasets else set()
        known |= {"prompt"} if document.prompts else set()
    naming.check_template(document.name_template, sorted(known))


def of_cell(
    document: ExperimentDocument,
    material: Material,
    levels: Mapping[str, Any],
    chosen: Chosen | None = None,
    settings: TrainingSettings | None = None,
) -> str:
    if document.name_template is None or ADAPTER in levels:
        return naming.cell_name(levels, document.name)
    values = {**(settings.model_dump() if settings else {}), **levels}
    if chosen is not None:
        dataset = None if chosen.dataset == ONLY else chosen.dataset
        values |= {"model": chosen.model, "dataset": dataset, "prompt": chosen.prompt}
        values[_SIZE] = _size(chosen.model, material)
    return naming.by_template(document.name_template, values)


def of_control(
    document: ExperimentDocument, material: Material, chosen: Chosen, *, among: Iterable[Chosen]
) -> str:
    """`among` are all that have a control: the dataset and the prompt are named where they vary."""
    fields = naming.fields_of(document.name_template or "")
    by_size = _SIZE in fields and "model" not in fields
    every = list(among)
    choices = [chosen.dataset] if len({one.dataset for one in every}) > 1 else []
    choices += [chosen.prompt] if chosen.prompt and len({one.prompt for one in every}) > 1 else []
    return naming.control_name(_size(chosen.model, material) if by_size else chosen.model, *choices)


def _size(model: str, material: Material) -> str:
    """`1B`; the model's own name where its size is not known."""
    count = material.parameter_counts.get(model)
    return size_label(count) if count else model
