"""What is to be evaluated, read from the request, and the rows it names."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
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
    data_format: str  # json_splits: {"test": [rows]}; json: [rows]; jsonl: a row a line; csv; parquet
    split: str  # used by json_splits only
    input_column: str
    output_column: str
    messages_column: str | None  # chat rows, [{"role", "content"}]: then the two above are not used
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


Message = tuple[str, str]  # role and content


@dataclass(frozen=True)
class Row:
    input: str  # the last thing that is said before the answer
    expected: str
    earlier: list[Message] = field(default_factory=list)  # of a conversation, what was said before


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


def _csv(entry: Entry) -> list[Any]:
    """Everything is text, as it was when it was trained on."""
    with Path(entry.data_file).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _parquet(entry: Entry) -> list[Any]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(entry.data_file).to_pylist()


def _load(entry: Entry) -> Any:
    return json.loads(Path(entry.data_file).read_text(encoding="utf-8"))


_READERS = {"json_splits": _json_splits, "json": _json, "jsonl": _jsonl, "csv": _csv, "parquet": _parquet}


def _row(entry: Entry, number: int, row: Any) -> Row:
    if entry.messages_column is not None:
        return _conversation(entry, number, row)
    for column in (entry.input_column, entry.output_column):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            message = f"Row {number} of {entry.data_file} has no text in column {column!r}."
            raise EntryFailed("DATA_INVALID", message)
    return Row(input=row[entry.input_column], expected=row[entry.output_column])


def _conversation(entry: Entry, number: int, row: Any) -> Row:
    """The last answer of the assistant is what is expected; what comes after it is not used."""
    messages = _messages(entry, number, row)
    answers = [place for place, (role, _) in enumerate(messages) if role == "assistant" and place > 0]
    if not answers:
        message = (
            f"Row {number} of {entry.data_file} has no answer of the assistant in {entry.messages_column!r}."
        )
        raise EntryFailed("DATA_INVALID", message)
    *earlier, (_, asked) = messages[: answers[-1]]
    role = messages[answers[-1] - 1][0]
    if role != "user":
        message = f"Row {number} of {entry.data_file}: the assistant answers the {role}, and not the user."
        raise EntryFailed("DATA_INVALID", message)
    return Row(input=asked, expected=messages[answers[-1]][1], earlier=earlier)


def _messages(entry: Entry, number: int, row: Any) -> list[Message]:
    """A system prompt of the entry's own takes the place of the row's, as torchtune does it."""
    found = row.get(entry.messages_column) if isinstance(row, dict) else None
    messages = [(m.get("role"), m.get("content")) for m in found or [] if isinstance(m, dict)]
    if not messages or not all(isinstance(text, str) for message in messages for text in message):
        message = (
            f"Row {number} of {entry.data_file} has no list of messages in column {entry.messages_column!r}."
        )
        raise EntryFailed("DATA_INVALID", message)
    return [m for m in messages if m[0] != "system" or entry.system_prompt is None]
