"""Datasets: their splits and rows, whether they can be trained on, and what is odd about them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from experiments.verification import checks, findings, rows
from experiments.verification.errors import VerificationError
from experiments.verification.findings import TRAIN, Finding, Tally
from experiments.verification.paths import file_hash, folder_hash, resolve_under
from experiments.verification.rows import Columns

Format = Literal["json_splits", "json", "jsonl", "csv", "parquet"]

MAX_DATASET_BYTES = 4 * 1024**3
OF_ENDINGS: dict[str, Format] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
PATTERN_CHARACTERS = "*?["  # by them torchtune's reader takes a path for a pattern
DATES_BECOME_TIMES = ("json", "jsonl")  # in its reader, where a column holds nothing else


@dataclass(frozen=True)
class DatasetFacts:
    format: Format
    split_rows: Mapping[str, int]
    content_hash: str  # of a folder: of the names and contents of its files
    findings: tuple[Finding, ...] = ()
    split_files: Mapping[str, str] = field(default_factory=dict)  # where the rows of each split are
    system_prompt: str = ""  # the one that the file itself names


def read_dataset(
    path: Path,
    *,
    format: str | None = None,
    input_column: str = "input",
    output_column: str = "output",
    messages_column: str | None = None,
    roots: Iterable[Path] | None = None,
    previous_hash: str = "",
) -> DatasetFacts:
    """What is known of a dataset, read from beginning to end. Raises VerificationError.

    A folder holds one file a split, named for it. Without a format it goes by the ending. Links in a folder may lead
    to anything under the roots; without roots, only to what is in the folder.
    """
    columns = Columns(input_column, output_column, messages_column)
    files = _files(path, [path] if roots is None else list(roots))
    format = _format(path, files, format)
    prompt, splits = _open(files, format, columns)
    tallies = {
        split: _tally(files.get(split, path), split, format, columns, rows) for split, rows in splits.items()
    }
    content_hash = folder_hash(list(files.values())) if path.is_dir() else file_hash(path)
    found = findings.of_splits(tallies)
    return DatasetFacts(
        format=format,
        split_rows={split: len(tally.rows) for split, tally in tallies.items()},
        content_hash=content_hash,
        findings=(*found, *([findings.changed()] if previous_hash not in ("", content_hash) else [])),
        split_files={split: str(files.get(split, path)) for split in splits},
        system_prompt=prompt,
    )


def read_rows(path: Path, *, format: str, split: str, columns: Columns) -> Iterable[Any]:
    """The rows of a split that was verified. Raises VerificationError where it is no longer as it was."""
    return rows.of_split(path, format=format, split=split, columns=columns)


def _files(path: Path, roots: list[Path]) -> dict[str, Path]:
    """The file of each split: of a folder, the files in it, in the usual order; else the one that is named."""
    if not path.is_file() and not path.is_dir():
        raise VerificationError(f"{path} is neither a file nor a folder.", "Name one that is.")
    files = {TRAIN: path} if path.is_file() else _in_folder(path, roots)
    for file in files.values():
        _check_file(file)
    return files


def _in_folder(folder: Path, roots: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.stem != TRAIN, entry.name)):
        if entry.suffix not in OF_ENDINGS:
            continue
        if entry.stem in found:
            message = f"{folder} has two files for the split {entry.stem!r}: {found[entry.stem].name}, {entry.name}."
            raise VerificationError(message, "Keep one of them.")
        found[entry.stem] = resolve_under(entry, roots)
    if not found:
        message = f"{folder} is a folder without data files."
        raise VerificationError(
            message, f"Put a file a split there: train.csv, test.csv, or {', '.join(OF_ENDINGS)}."
        )
    return found


def _check_file(file: Path) -> None:
    if file.stat().st_size > MAX_DATASET_BYTES:
        raise VerificationError(f"{file} is larger than {MAX_DATASET_BYTES} bytes.", "Split it.")
    if any(character in str(file) for character in PATTERN_CHARACTERS):
        message = f"{file} has one of {' '.join(PATTERN_CHARACTERS)} in its path, which torchtune takes for a pattern."
        raise VerificationError(message, "Rename it.")


def _format(path: Path, files: Mapping[str, Path], asked: str | None) -> Format:
    endings = {OF_ENDINGS.get(file.suffix.lower()) for file in files.values()}
    if path.is_dir() and (len(endings) > 1 or asked == "json_splits"):
        shown = ", ".join(file.name for file in files.values())
        raise VerificationError(f"{path} has {shown}.", "Let its files be of one format, and one a split.")
    if asked is not None:
        return _known_format(path, asked)
    (format,) = endings
    if format is None:
        return _known_format(path, path.suffix)
    return "json_splits" if format == "json" and path.is_file() and _holds_splits(path) else format


def _known_format(path: Path, asked: str) -> Format:
    known = get_args(Format)
    if asked in known:
        return cast(Format, asked)
    raise VerificationError(f"{path} is of no known format ({asked!r}).", f"Give format: {', '.join(known)}.")


def _holds_splits(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _open(
    files: Mapping[str, Path], format: str, columns: Columns
) -> tuple[str, Mapping[str, Iterable[Any]]]:
    """The system prompt that a file names, and the rows of each split."""
    if format != "json_splits":
        splits = {
            split: rows.of_split(file, format=format, split=split, columns=columns)
            for split, file in files.items()
        }
        return "", splits
    held = rows.of_json_splits(files[TRAIN])
    if not held.splits:
        raise VerificationError(
            f"{files[TRAIN]} has no splits.", "Give it rows, in a split 'train' first of all."
        )
    return held.system_prompt, held.splits


def _tally(file: Path, split: str, format: str, columns: Columns, of_split: Iterable[Any]) -> Tally:
    tally = Tally()
    holds_dates = [True, True]
    for number, row in enumerate(of_split):
        texts = checks.exchange(row, columns, f"{file}, split {split!r}, row {number}")
        tally.add(*texts)
        holds_dates = [was and checks.is_date(text) for was, text in zip(holds_dates, texts, strict=True)]
    if not tally.rows:
        raise VerificationError(f"{file}, split {split!r} has no rows.", "Give it rows, or remove it.")
    if format in DATES_BECOME_TIMES and not columns.messages and any(holds_dates):
        column = columns.names[holds_dates.index(True)]
        message = (
            f"{file}: column {column!r} holds only dates, which torchtune's reader turns into points in time."
        )
        raise VerificationError(message, "Write the dataset as CSV or Parquet.")
    return tally
