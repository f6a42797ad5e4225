"""Datasets and models on disk: under a declared root, whole, counted and hashed."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

MAX_SAFETENSORS_HEADER_BYTES = 100 * 1024 * 1024
MAX_DATASET_BYTES = 4 * 1024**3
_HASH_BLOCK_BYTES = 1024 * 1024


class VerificationError(Exception):
    """Something on disk is missing or broken: what, and what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class ModelFacts:
    architecture: str
    config: Mapping[str, Any]
    parameter_count: int
    content_hash: str  # of the configuration, the safetensors headers and the file sizes


@dataclass(frozen=True)
class DatasetFacts:
    format: str
    split_rows: Mapping[str, int]
    content_hash: str


def resolve_under(path: str | Path, roots: Iterable[Path]) -> Path:
    """The path with its links resolved, if it lies under one of the declared roots."""
    roots = [root.resolve() for root in roots]
    given = Path(path)
    candidates = [given] if given.is_absolute() else [root / given for root in roots]
    for candidate in candidates:
        resolved = _resolved(candidate)
        if resolved is not None and any(resolved.is_relative_to(root) for root in roots):
            return resolved
    listed = ", ".join(str(root) for root in roots)
    raise VerificationError(
        f"{str(path)!r} is not there under the declared roots ({listed}).",
        "Put it there, or declare its root.",
    )


def available(roots: Iterable[Path]) -> list[str]:
    """Names of what lies directly under the roots."""
    return sorted(
        {entry.name for root in roots if root.is_dir() for entry in root.iterdir() if entry.name[0] != "."}
    )


def read_model(directory: Path) -> ModelFacts:
    """Facts of a Hugging Face checkpoint, without loading it. Raises VerificationError for what is missing or broken."""
    try:
        return _facts(directory)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise VerificationError(
            f"{directory} is no checkpoint in Hugging Face layout: {error!r}.", "Download it again."
        ) from error


def read_dataset(path: Path, *, format: str, input_column: str, output_column: str) -> DatasetFacts:
    """Splits, rows and hash of a dataset file. Raises VerificationError."""
    if path.stat().st_size > MAX_DATASET_BYTES:
        raise VerificationError(f"{path} is larger than {MAX_DATASET_BYTES} bytes.", "Split it.")
    splits = _splits(path, format)
    for split, rows in splits.items():
        _check_rows(path, split, rows, (input_column, output_column))
    counted = {split: len(rows) for split, rows in splits.items()}
    return DatasetFacts(format=format, split_rows=counted, content_hash=file_hash(path))


def file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _facts(directory: Path) -> ModelFacts:
    config = _read_json(directory / "config.json")
    _require(directory / "tokenizer.json")
    files = _weight_files(directory)
    headers = [_safetensors_header(file) for file in files]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file, header in zip(files, headers, strict=True):
        digest.update(f"{file.name} {file.stat().st_size} {json.dumps(header, sort_keys=True)}".encode())
    return ModelFacts(
        architecture=next(iter(config.get("architectures") or []), config.get("model_type", "")),
        config=config,
        parameter_count=sum(_parameters(header) for header in headers),
        content_hash=digest.hexdigest(),
    )


def _resolved(path: Path) -> Path | None:
    """None also for what the file system refuses to look up, such as a name that is too long."""
    try:
        return path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None


def _splits(path: Path, format: str) -> dict[str, list[Any]]:
    if format == "jsonl":
        return {
            "train": [_json_line(path, n, line) for n, line in enumerate(_lines(path), 1) if line.strip()]
        }
    data = _read_json(path)
    if format == "json":
        return {"train": _list(path, "", data)}
    if not isinstance(data, dict):
        raise VerificationError(
            f"{path} is not a mapping of splits to rows.", "Give its format as json or jsonl."
        )
    return {name: _list(path, name, rows) for name, rows in data.items() if name != "metadata"}


def _check_rows(path: Path, split: str, rows: list[Any], columns: tuple[str, str]) -> None:
    for number, row in enumerate(rows):
        for column in columns:
            if not isinstance(row, dict) or not isinstance(row.get(column), str):
                raise VerificationError(
                    f"{path}, split {split!r}, row {number} has no text in column {column!r}.",
                    "Correct the row, or name the column with input_column or output_column.",
                )


def _list(path: Path, split: str, rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise VerificationError(f"{path}, split {split!r} is not a list of rows.", "Correct the file.")
    return rows


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationError(f"{path} cannot be read: {error}.", "Correct the file.") from error


def _json_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise VerificationError(
            f"{path}, line {number} is not JSON: {error}.", "Correct the line."
        ) from error


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    else:
        names = ["model.safetensors"]
    return [_require(directory / Path(name).name) for name in names]


def _safetensors_header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of length (little endian), then the header."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 0 < length <= min(size - 8, MAX_SAFETENSORS_HEADER_BYTES):
            raise VerificationError(f"{file} is not a whole safetensors file.", "Download it again.")
        header = _parse_header(file, stream.read(length))
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if 8 + length + end != size:
        raise VerificationError(
            f"{file} has {size} bytes where {8 + length + end} were expected.", "Download it again."
        )
    return header


def _parse_header(file: Path, raw: bytes) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(raw)
    except ValueError as error:
        raise VerificationError(
            f"{file} has no readable safetensors header.", "Download it again."
        ) from error
    header.pop("__metadata__", None)
    return header


def _parameters(header: Mapping[str, Any]) -> int:
    return sum(prod(tensor["shape"]) for tensor in header.values())


def _read_json(path: Path) -> Any:
    _require(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise VerificationError(f"{path} is not readable JSON: {error}.", "Correct the file.") from error


def _require(path: Path) -> Path:
    if not path.is_file():
        raise VerificationError(f"{path} is missing.", "Complete the directory, or download it again.")
    return path
