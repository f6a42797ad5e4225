"""instruct_dataset over a CSV file in which everything is text.

Left to itself, pandas takes a column of digits for numbers and the words "NA", "null" or "nan" for nothing at all:
torchtune would then stop at the first row, or train on "None".
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from datasets import Features, Value
from torchtune.datasets import instruct_dataset as torchtune_dataset


def instruct_dataset(
    tokenizer: Any,
    *,
    data_files: str,
    column_map: dict[str, str],
    train_on_input: bool = False,
    new_system_prompt: str | None = None,
    packed: bool = False,
) -> Any:
    columns = _columns(Path(data_files))
    return torchtune_dataset(
        tokenizer,
        source="csv",
        data_files=data_files,
        split="train",
        column_map=column_map,
        train_on_input=train_on_input,
        new_system_prompt=new_system_prompt,
        packed=packed,
        features=Features({column: Value("string") for column in columns}),
        na_filter=False,
    )


def _columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file))
