"""Finding the datasets and models that a document names, and keeping what was verified of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from experiments import generators
from experiments.documents import DatasetFile, GeneratorCall, Problem, nearest
from experiments.models import BaseModel, Dataset
from experiments.specs import DataSource
from experiments.verification import (
    DatasetFacts,
    ModelFacts,
    VerificationError,
    available,
    read_dataset,
    read_model,
    resolve_under,
)


class NotFound(Exception):
    """A dataset or model that a document names cannot be used."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True)
class FoundModel:
    name: str
    path: Path
    facts: ModelFacts


@dataclass(frozen=True)
class FoundDataset:
    """A dataset that can be used, or made by its generator on approval."""

    name: str
    path: Path
    facts: DatasetFacts
    source: DatasetFile
    generator_call: Mapping[str, Any] | None = None

    def data_source(self, split: str) -> DataSource:
        return DataSource(
            path=str(self.path),
            format=self.source.format,
            split=split,
            input_column=self.source.input_column,
            output_column=self.source.output_column,
            system_prompt=self.source.system_prompt,
        )


def find_model(name: str) -> FoundModel:
    """The model of this name, verified now: a known one, or a directory under a model root. Raises NotFound."""
    known = BaseModel.objects.filter(name=name).first()
    try:
        path = resolve_under(known.path if known else name, settings.MODEL_ROOTS)
        return FoundModel(name, path, read_model(path))
    except VerificationError as error:
        message = f"Model {name!r}: {error.message}"
        raise NotFound(Problem("factors.model", message, _model_remedy(name, error))) from error


def record_model(found: FoundModel, *, now: datetime) -> BaseModel:
    model, _ = BaseModel.objects.update_or_create(
        name=found.name,
        defaults={
            "path": str(found.path),
            "architecture": found.facts.architecture,
            "parameter_count": found.facts.parameter_count,
            "config": dict(found.facts.config),
            "content_hash": found.facts.content_hash,
            "problem": "",
            "verified_at": now,
        },
    )
    return model


def find_dataset(source: GeneratorCall | DatasetFile | str) -> FoundDataset:
    """What a document's `dataset` stands for. Raises NotFound."""
    if isinstance(source, GeneratorCall):
        return _generated(source)
    if isinstance(source, DatasetFile):
        return _on_disk(Path(source.path).stem, source)
    known = Dataset.objects.filter(name=source).first()
    if known is None:
        return _on_disk(Path(source).stem, DatasetFile(path=source))
    file = DatasetFile.model_validate(
        {
            "path": known.path,
            "format": known.format or "json_splits",
            "system_prompt": known.system_prompt or None,
        }
    )
    return _on_disk(known.name, file, known.generator_call)


def record_dataset(found: FoundDataset, *, now: datetime) -> Dataset:
    dataset, _ = Dataset.objects.update_or_create(
        name=found.name,
        defaults={
            "path": str(found.path),
            "format": found.facts.format,
            "system_prompt": found.source.system_prompt or "",
            "generator_call": found.generator_call,
            "split_rows": dict(found.facts.split_rows),
            "content_hash": found.facts.content_hash,
            "problem": "",
            "verified_at": now,
        },
    )
    return dataset


def make_missing(dataset: Dataset) -> None:
    """Write a dataset that has a generator and is not on disk."""
    if dataset.generator_call and not Path(dataset.path).exists():
        call = dict(dataset.generator_call)
        generators.generate(call.pop("generator"), **call).write(Path(dataset.path))


def _generated(call: GeneratorCall) -> FoundDataset:
    try:
        generator = generators.get(call.generator)
        made = generator(**(call.model_extra or {}))
    except ValueError as error:
        raise NotFound(Problem("dataset", str(error), "")) from error
    path = settings.DATASET_ROOTS[0].resolve() / made.file_name
    file = DatasetFile(path=str(path), system_prompt=generator.system_prompt)
    if path.exists():
        return _on_disk(path.stem, file, call.model_dump())
    rows = {split: len(rows) for split, rows in made.splits.items()}
    facts = DatasetFacts(format="json_splits", split_rows=rows, content_hash="")
    return FoundDataset(path.stem, path, facts, file, call.model_dump())


def _on_disk(name: str, file: DatasetFile, call: Mapping[str, Any] | None = None) -> FoundDataset:
    try:
        path = resolve_under(file.path, settings.DATASET_ROOTS)
        facts = read_dataset(
            path, format=file.format, input_column=file.input_column, output_column=file.output_column
        )
    except VerificationError as error:
        similar = nearest(Path(file.path).name, available(settings.DATASET_ROOTS))
        raise NotFound(Problem("dataset", error.message, f"{error.remedy} {similar}")) from error
    return FoundDataset(name, path, facts, file, call)


def _model_remedy(name: str, error: VerificationError) -> str:
    there = available(settings.MODEL_ROOTS)
    if name in there:
        return error.remedy
    return f"{nearest(name, there)} Or download it: hf download <repository> --local-dir {settings.MODEL_ROOTS[0] / name}"
