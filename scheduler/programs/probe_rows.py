"""The rows that a probe trains on, taken out of the training split and written to a file of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.specs import DataSource, FinetuneSpec, ProbeSpec
from experiments.steps import steps_per_epoch
from experiments.verification import Columns, VerificationError, read_rows

ROWS = "probe_rows.json"


def chosen_rows(spec: ProbeSpec) -> list[Any]:
    """In the order in which they are to be batched. Raises ValueError for rows that are not there."""
    data, wanted = spec.finetune.data, set(spec.row_indices)
    try:
        rows = {index: row for index, row in enumerate(_rows(data)) if index in wanted}
    except VerificationError as error:
        raise ValueError(str(error)) from error
    beyond = sorted(wanted - set(rows))
    if beyond:
        raise ValueError(
            f"{data.path}, split {data.split!r}, has no row {beyond[0]}, which the probe wants: "
            "the data has changed since it was planned. Plan the probe again."
        )
    return [rows[index] for index in spec.row_indices]


def _rows(data: DataSource) -> Any:
    columns = Columns(data.input_column, data.output_column, data.messages_column)
    return read_rows(Path(data.path), format=data.format, split=data.split, columns=columns)


def probed(spec: ProbeSpec, rows_file: Path) -> FinetuneSpec:
    """The fine-tune that the probe is: one epoch over its own rows, in their order, and nothing validated."""
    asked = spec.finetune
    count = len(spec.row_indices)
    return replace(
        asked,
        data=replace(asked.data, path=str(rows_file), format="json", split="train"),
        rows=count,
        epochs=1,
        max_steps_per_epoch=None,
        steps_per_epoch=None if asked.packed else _steps(asked, count),
        recipe=asked.recipe.replace("_validating_", "_finetune_"),
        validation=None,
        overrides={**asked.overrides, "shuffle": False},
    )


def _steps(asked: FinetuneSpec, count: int) -> int:
    return steps_per_epoch(
        rows=count,
        batch_size=asked.batch_size,
        gradient_accumulation_steps=asked.gradient_accumulation_steps,
        world_size=asked.world_size,
    )
