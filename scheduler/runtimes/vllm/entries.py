"""What is to be evaluated, read from the request, and the rows it names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class EntryFailed(Exception):
    """One entry cannot be evaluated; the others go on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    run_id: int
    adapter_path: str | None  # None: the base model itself
    data_file: str
    data_format: str  # json_splits: {"test": [rows]}; json: [rows]; jsonl: a row a line
    split: str  # used by json_splits only
    input_column: str
    output_column: str
    system_prompt: str | None
    prompt_format: str
    scorers: list[str]
    max_tokens: int
    temperature: float
    limit: int | None  # the first so many rows; None: all
    result_dir: str


@dataclass(frozen=True)
class Request:
    model_path: str
    engine: dict[str, Any]
    max_lora_rank: int | None
    cancel_dir: str
    entries: list[Entry]

    def is_cancelled(self, entry: Entry) -> bool:
        return (Path(self.cancel_dir) / str(entry.run_id)).exists()


@dataclass(frozen=True)
class Row:
    input: str
    expected: str


def read_request(path: Path) -> Request:
    document = json.loads(path.read_text(encoding="utf-8"))
    entries = [Entry(**entry) for entry in document.pop("entries")]
    return Request(entries=entries, **document)


def read_rows(entry: Entry) -> list[Row]:
    try:
        raw = _READERS[entry.data_format](entry)
    except KeyError:
        known = ", ".join(_READERS)
        raise EntryFailed(
            "DATA_INVALID", f"There is no data format {entry.data_format!r}: use one of {known}."
        ) from None
    except (OSError, ValueError) as error:
        raise EntryFailed("DATA_INVALID", f"{entry.data_file} could not be read: {error}") from error
    rows = [_row(entry, number, row) for number, row in enumerate(raw[: entry.limit])]
    if not rows:
        raise EntryFailed("DATA_INVALID", f"{entry.data_file} has no rows in its split {entry.split!r}.")
    return rows


def _json_splits(entry: Entry) -> list[Any]:
    document = _load(entry)
    if not isinstance(document, dict) or not isinstance(document.get(entry.split), list):
        held = ", ".join(document) if isinstance(document, dict) else "no splits"
        raise EntryFailed("DATA_INVALID", f"{entry.data_file} has no split {entry.split!r}; it has {held}.")
    return document[entry.split]


def _json(entry: Entry) -> list[Any]:
    document = _load(entry)
    if not isinstance(document, list):
        raise EntryFailed("DATA_INVALID", f"{entry.data_file} is not a list of rows.")
    return document


def _jsonl(entry: Entry) -> list[Any]:
    lines = Path(entry.data_file).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def _load(entry: Entry) -> Any:
    return json.loads(Path(entry.data_file).read_text(encoding="utf-8"))


_READERS = {"json_splits": _json_splits, "json": _json, "jsonl": _jsonl}


def _row(entry: Entry, number: int, row: Any) -> Row:
    for column in (entry.input_column, entry.output_column):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            message = f"Row {number} of {entry.data_file} has no text in column {column!r}."
            raise EntryFailed("DATA_INVALID", message)
    return Row(input=row[entry.input_column], expected=row[entry.output_column])
