"""Datasets: files and folders under a dataset root, those that were declared, and those that a generator makes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from experiments import generators
from experiments.catalogue.errors import NotFound, what_is_there
from experiments.documents import DatasetFile, GeneratorCall, Problem
from experiments.generators import GeneratedDataset
from experiments.models import Dataset
from experiments.specs import DataSource
from experiments.verification import (
    Columns,
    DatasetFacts,
    Finding,
    VerificationError,
    creatable_under,
    read_dataset,
    resolve_under,
)


@dataclass(frozen=True)
class FoundDataset:
    """A dataset that can be used, or made by its generator on approval."""

    name: str
    path: Path
    facts: DatasetFacts
    source: DatasetFile
    generator_call: Mapping[str, Any] | None = None

    @property
    def is_missing(self) -> bool:
        return not self.path.exists()

    @property
    def system_prompt(self) -> str:
        """What the document says, be it the empty text; else what the file says of itself."""
        said = self.source.system_prompt
        return self.facts.system_prompt if said is None else said

    @property
    def columns(self) -> Columns:
        return Columns(self.source.input_column, self.source.output_column, self.source.messages_column)

    def file_of(self, split: str) -> Path:
        return Path(self.facts.split_files.get(split, str(self.path)))

    def data_source(self, split: str) -> DataSource:
        return DataSource(
            path=str(self.file_of(split)),
            format=self.facts.format,
            split=split,
            input_column=self.source.input_column,
            output_column=self.source.output_column,
            messages_column=self.source.messages_column,
            system_prompt=self.system_prompt or None,
        )

    def warnings(self) -> tuple[str, ...]:
        """Sentences for the plan: what is odd about it, and that it is not there yet."""
        found = tuple(f"Dataset {self.name}: {finding.sentence}" for finding in self.facts.findings)
        if not self.is_missing:
            return found
        return (f"Dataset {self.name} is not there yet; its generator makes it on approval.", *found)


def find_dataset(source: GeneratorCall | DatasetFile | str) -> FoundDataset:
    """What a document's `dataset` stands for, verified now. Raises NotFound."""
    if isinstance(source, GeneratorCall):
        return _called(source)
    if isinstance(source, DatasetFile):
        return _of_file(Path(source.path).stem, source)
    known = Dataset.objects.filter(name=source).first()
    if known is None:
        return _of_file(Path(source).stem, DatasetFile(path=source))
    return _of_file(known.name, _declared(known), known.generator_call)


def record_dataset(found: FoundDataset, *, now: datetime) -> Dataset:
    dataset, _ = Dataset.objects.update_or_create(
        name=_free_name(found),
        defaults={
            "path": str(found.path),
            "format": found.facts.format,
            "system_prompt": found.system_prompt,
            "generator_call": found.generator_call,
            "input_column": found.source.input_column,
            "output_column": found.source.output_column,
            "messages_column": found.source.messages_column or "",
            "split_rows": dict(found.facts.split_rows),
            "findings": [finding.to_json() for finding in found.facts.findings],
            "content_hash": found.facts.content_hash,
            "problem": "",
            "verified_at": now,
        },
    )
    return dataset


def make_missing(dataset: Dataset | FoundDataset) -> None:
    """Write a dataset that has a generator and is not on disk."""
    if dataset.generator_call and not Path(dataset.path).exists():
        generators.make(dataset.generator_call).write(Path(dataset.path))


def _called(call: GeneratorCall) -> FoundDataset:
    made = _made(call.model_dump())
    path = settings.DATASET_ROOTS[0].resolve() / made.file_name
    file = DatasetFile(path=str(path), system_prompt=made.metadata["system_prompt"])
    if not path.exists():
        return _to_be_made(path.stem, path, file, made, call.model_dump())
    found = _of_file(path.stem, file, call.model_dump())
    if found.facts.content_hash == made.content_hash:
        return found
    other = Finding(
        kind="changed", sentence="The file that is there is not the one that its generator makes."
    )
    return replace(found, facts=replace(found.facts, findings=(*found.facts.findings, other)))


def _of_file(name: str, file: DatasetFile, call: Mapping[str, Any] | None = None) -> FoundDataset:
    try:
        path = resolve_under(file.path, settings.DATASET_ROOTS)
    except VerificationError as error:
        return _of_missing(name, file, call, error)
    try:
        facts = read_dataset(
            path,
            format=file.format,
            input_column=file.input_column,
            output_column=file.output_column,
            messages_column=file.messages_column,
            roots=settings.DATASET_ROOTS,
            previous_hash=_previous_hash(path),
        )
    except VerificationError as error:
        raise NotFound(Problem("dataset", error.message, error.remedy)) from error
    return FoundDataset(name, path, facts, file, call)


def _of_missing(
    name: str, file: DatasetFile, call: Mapping[str, Any] | None, error: VerificationError
) -> FoundDataset:
    """A file that is not there, if its name or its row says how a generator makes it."""
    call = call or generators.call_for(Path(file.path).name)
    target = creatable_under(file.path, settings.DATASET_ROOTS)
    if call and target and _takes_what_generators_make(file):
        return _to_be_made(name, target, file, _made(call), call)
    there = what_is_there(file.path, settings.DATASET_ROOTS)
    remedy = f"{error.remedy} {there} {_no_generator(file, call)}".strip()
    raise NotFound(Problem("dataset", error.message, remedy)) from error


def _to_be_made(
    name: str, path: Path, file: DatasetFile, made: GeneratedDataset, call: Mapping[str, Any]
) -> FoundDataset:
    facts = DatasetFacts(
        format="json_splits",
        split_rows={split: len(rows) for split, rows in made.splits.items()},
        content_hash=made.content_hash,
        split_files={split: str(path) for split in made.splits},
        system_prompt=made.metadata["system_prompt"],
    )
    return FoundDataset(name, path, facts, file, call)


def _made(call: Mapping[str, Any]) -> GeneratedDataset:
    try:
        return generators.make(call)
    except ValueError as error:
        raise NotFound(Problem("dataset", str(error), "")) from error


def _takes_what_generators_make(file: DatasetFile) -> bool:
    columns = (file.input_column, file.output_column, file.messages_column)
    return file.format in (None, "json_splits") and columns == ("input", "output", None)


def _no_generator(file: DatasetFile, call: Mapping[str, Any] | None) -> str:
    if call is None:
        return (
            f"No generator makes a file of this name; one makes {generators.EXAMPLE_FILE_NAME}, for example."
        )
    return f"A generator could make it here, as json_splits with the columns input and output: dataset: {dict(call)}."


def _declared(known: Dataset) -> DatasetFile:
    return DatasetFile.model_validate(
        {
            "path": known.path,
            "format": known.format or None,
            "input_column": known.input_column or "input",
            "output_column": known.output_column or "output",
            "messages_column": known.messages_column or None,
            "system_prompt": known.system_prompt or None,
        }
    )


def _previous_hash(path: Path) -> str:
    verified = Dataset.objects.filter(path=str(path), verified_at__isnull=False).order_by("-verified_at")
    return verified.values_list("content_hash", flat=True).first() or ""


def _free_name(found: FoundDataset) -> str:
    """Two files may share a name in different folders; the row of one must not become that of the other."""
    others = Dataset.objects.exclude(path=str(found.path))
    names = (found.name, f"{found.path.parent.name}_{found.path.name}")
    return next((name for name in names if not others.filter(name=name).exists()), str(found.path)[-200:])
