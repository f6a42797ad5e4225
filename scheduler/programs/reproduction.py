"""What a run directory holds so that its run can be understood and repeated without labmgr."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.specs import DataSource
from experiments.verification import VerificationError, read_model
from scheduler.programs.environment import ml_versions

COMMAND = "command.sh"
ENVIRONMENT = "environment.json"


def environment_json(*, model_path: Path, data: Iterable[DataSource], ml_python: Path) -> str:
    """The versions that were there, and hashes of what was read: to see later whether they are still the same."""
    facts: Mapping[str, Any] = {
        "versions": dict(ml_versions(ml_python)),
        "python": str(ml_python),
        "model": {"path": str(model_path), "hash": hash_of_model(model_path)},
        "datasets": [
            {"path": path, "sha256": hash_of_file(Path(path))}
            for path in sorted({source.path for source in data})
        ],
    }
    return json.dumps(facts, indent=1)


def copies(folder: Path, names: Iterable[str], *, into: Path) -> dict[Path, str]:
    """The files of `folder` that have these names, as they are to be written."""
    return {into / name: (folder / name).read_text(encoding="utf-8") for name in names}


def hash_of_file(path: Path) -> str | None:
    """None for a file that is not there: the program itself then says so best."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def hash_of_model(path: Path) -> str | None:
    """As the catalogue has it; None for a model that is not whole, which its program finds out as well."""
    try:
        return read_model(path).content_hash
    except (OSError, VerificationError):
        return None
