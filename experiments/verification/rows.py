"""Rows of a dataset file, one after another where its format allows it, whatever its size."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.documents import nearest
from experiments.verification.errors import VerificationError

MAX_JSON_BYTES = 256 * 1024**2  # it is read at once, and takes several times its size in memory
MAX_LINE_BYTES = 32 * 1024**2
MAX_ROW_GROUP_BYTES = 2 * 1024**3  # of Parquet, which is read by row groups; not compressed
ROWS_AT_ONCE = 1024
_BOM = "\ufeff"
_SAVE_AS_UTF8 = "Save it as UTF-8, without a byte order mark."


@dataclass(frozen=True)
class Columns:
    """Those that are used: an input and an output, or one of chat messages."""

    input: str = "input"
    output: str = "output"
    messages: str | None = None

    @property
    def names(self) -> list[str]:
        return [self.messages] if self.messages else [self.input, self.output]


@dataclass(frozen=True)
class JsonSplits:
    """A JSON file that holds several splits, and may say in its metadata with which prompt they are meant."""

    splits: Mapping[str, list[Any]]
    system_prompt: str


def of_split(path: Path, *, format: str, split: str, columns: Columns) -> Iterable[Any]:
    """The rows of one split of a file. Raises VerificationError, for most formats only while they are read."""
    if format == "json_splits":
        return _held(path, split)
    if format == "json":
        return _list(path, "", _json(path))
    readers = {"jsonl": _of_json_lines, "csv": _of_csv, "parquet": _of_parquet}
    return readers[format](path, columns)


def of_json_splits(path: Path) -> JsonSplits:
    data = _json(path)
    if not isinstance(data, dict):
        message = f"{path} is not a mapping of splits to rows."
        raise VerificationError(message, "Give its format as json or jsonl.")
    metadata = data.pop("metadata", None)
    prompt = metadata.get("system_prompt") if isinstance(metadata, dict) else None
    splits = {name: _list(path, name, rows) for name, rows in data.items()}
    return JsonSplits(splits, prompt if isinstance(prompt, str) else "")


def _held(path: Path, split: str) -> list[Any]:
    held = of_json_splits(path).splits
    if split not in held:
        raise VerificationError(f"{path} has no split {split!r}.", f"It has: {', '.join(held)}.")
    return held[split]


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends. Raises VerificationError for one that is too long or not UTF-8."""
    try:
        with path.open("rb") as file:
            number = 1
            while line := file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    message = f"{path}, line {number} is longer than {MAX_LINE_BYTES} bytes."
                    raise VerificationError(message, "Write one row a line.")
                yield _utf8(path, line, first_line=number)
                number += 1
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error}.", "Correct the file.") from error


def missing_column(place: str, column: str, known: Iterable[str]) -> VerificationError:
    names = sorted(str(name) for name in known)
    shown = nearest(column, names[:50]) if names else ""
    remedy = f"{shown} Name it with input_column, output_column or messages_column."
    return VerificationError(f"{place} has no column {column!r}.", remedy.strip())


def _of_json_lines(path: Path, columns: Columns) -> Iterator[Any]:
    for number, line in enumerate(text_lines(path), 1):
        if number == 1 and line.startswith(_BOM):
            raise VerificationError(f"{path} begins with a byte order mark.", _SAVE_AS_UTF8)
        if line.strip():
            yield _json_line(path, number, line)


def _of_csv(path: Path, columns: Columns) -> Iterator[Mapping[str, str]]:
    csv.field_size_limit(MAX_LINE_BYTES)  # Python's own limit is 128 KiB
    lines = csv.reader((line.removeprefix(_BOM) for line in text_lines(path)), strict=True)
    try:
        header = next(lines, [])
        _check_header(path, header, columns)
        for fields in lines:
            if fields:  # a blank line is none
                yield _csv_row(path, lines.line_num, header, fields)
    except csv.Error as error:
        message = f"{path}, line {lines.line_num} is not CSV: {error}."
        raise VerificationError(message, "Correct the line; a quote in a field is doubled.") from error


def _csv_row(path: Path, line: int, header: list[str], fields: list[str]) -> Mapping[str, str]:
    if len(fields) != len(header):
        raise VerificationError(
            f"{path}, line {line} has {len(fields)} fields where the header has {len(header)}.",
            "Correct the line; a comma in a field needs quotes around the field.",
        )
    return dict(zip(header, fields, strict=True))


def _check_header(path: Path, header: list[str], columns: Columns) -> None:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise VerificationError(
            f"{path} has one column, {header[0]!r:.100}.", "Separate the columns by commas."
        )
    for column in columns.names:
        if column not in header:
            raise missing_column(str(path), column, header)
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise VerificationError(f"{path} has the column {doubled[0]!r} twice.", "Rename one of them.")


def _of_parquet(path: Path, columns: Columns) -> Iterator[Mapping[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            _check_parquet(path, file, columns)
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns.names):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"{path} is no readable Parquet file: {error}."
        raise VerificationError(message, "Write it again, or correct its format.") from error


def _check_parquet(path: Path, file: Any, columns: Columns) -> None:
    known = file.schema_arrow.names
    for column in columns.names:
        if column not in known:
            raise missing_column(str(path), column, known)
    groups = [file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups)]
    if max(groups, default=0) > MAX_ROW_GROUP_BYTES:
        message = (
            f"{path} has a row group of {max(groups)} bytes; at most {MAX_ROW_GROUP_BYTES} are read at once."
        )
        raise VerificationError(message, "Write it with smaller row groups.")


def _json(path: Path) -> Any:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        message = f"{path} has {size} bytes; JSON is read at once, and at most {MAX_JSON_BYTES} bytes of it."
        raise VerificationError(message, "Write it as JSONL, which is read line by line, one file a split.")
    text = _utf8(path, path.read_bytes())
    if text.startswith(_BOM):
        raise VerificationError(f"{path} begins with a byte order mark.", _SAVE_AS_UTF8)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        is_lines = "Extra data" in str(error)
        remedy = "If each line is a row, give its format as jsonl." if is_lines else "Correct the file."
        raise VerificationError(f"{path} is not readable JSON: {error}.", remedy) from error


def _json_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise VerificationError(
            f"{path}, line {number} is not JSON: {error}.", "Correct the line."
        ) from error


def _utf8(path: Path, raw: bytes, first_line: int = 1) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        message = f"{path}, line {line} is not UTF-8: it has the byte 0x{raw[error.start]:02x}."
        raise VerificationError(message, _SAVE_AS_UTF8) from error


def _list(path: Path, split: str, rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        place = f"{path}, split {split!r}" if split else str(path)
        raise VerificationError(f"{place} is not a list of rows.", "Correct the file, or its format.")
    return rows
