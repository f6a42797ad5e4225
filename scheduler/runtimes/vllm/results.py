"""Results that are whole and on the disk, or not there: another process takes a result file as the end of its run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STATES = {"succeeded", "failed", "cancelled"}


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _write(temporary, [json.dumps(value, indent=2) + "\n"])
    temporary.replace(path)
    _sync_directory(path.parent)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _sync_directory(path.parent)


def is_done(result_dir: Path, run_id: int) -> bool:
    """Whether an earlier engine already ended this entry."""
    result = _read(result_dir / "result.json")
    if result.get("run_id") != run_id or result.get("state") not in STATES:
        return False
    return result["state"] != "succeeded" or _count_lines(result_dir / "predictions.jsonl") == result.get(
        "rows"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return -1


def _write(path: Path, parts: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
