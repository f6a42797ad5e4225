"""What a document names, found and verified on disk, and handed to the layout."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from django.conf import settings

from experiments import catalogue, defaults, documents, layout, recipes
from experiments.adapters import AdapterNotFound, find_adapter
from experiments.catalogue import FoundDataset, FoundModel, NotFound
from experiments.defaults import BadDefaults, Defaults
from experiments.documents import DatasetFile, ExperimentDocument, GeneratorCall, InvalidDocument, Problem
from experiments.layout import ONLY, Adapter, Data, Material, PlannedCell
from experiments.planning.workloads import Workloads
from experiments.specs import DataSource

MAX_POSITION_EMBEDDINGS = 2048  # assumed where a model's config.json does not say
TRAIN = "train"

_Source = GeneratorCall | DatasetFile | str
_Named = TypeVar("_Named")
_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Found:
    models: Mapping[str, FoundModel]
    datasets: Mapping[str, FoundDataset]  # by the names of the document; ONLY for its one dataset
    adapters: Mapping[str, Adapter]
    prompts: Mapping[str, str]
    recipe_files: Mapping[str, str]
    defaults: Defaults
    now: datetime

    @cached_property
    def workloads(self) -> Workloads:
        return Workloads(models=self.models, datasets=self.datasets, prompts=self.prompts, now=self.now)

    @property
    def configs(self) -> dict[str, Mapping[str, Any]]:
        return {name: model.facts.config for name, model in self.models.items()}

    @property
    def split_rows(self) -> dict[str, int]:
        """The least rows that each split has in any of the datasets."""
        rows: dict[str, int] = {}
        for dataset in self.datasets.values():
            for split, count in dataset.facts.split_rows.items():
                rows[split] = min(count, rows.get(split, count))
        return rows

    def material(self) -> Material:
        return Material(
            model_paths={name: str(model.path) for name, model in self.models.items()},
            max_model_lens={name: _positions(model.facts.config) for name, model in self.models.items()},
            parameter_counts={name: model.facts.parameter_count for name, model in self.models.items()},
            datasets={name: _data(dataset) for name, dataset in self.datasets.items()},
            prompts=self.prompts,
            adapters=self.adapters,
            recipe_files=self.recipe_files,
            workload=self.workloads.of_settings,
            defaults=self.defaults,
        )

    def truncations(self, cells: Sequence[PlannedCell]) -> Iterator[str]:
        """A sentence for each length at which rows would be cut."""
        cut = {
            (cell.chosen, spec.max_seq_len, spec.workload.truncated_share)
            for cell in cells
            if cell.chosen and (spec := cell.finetune) and spec.workload and spec.workload.truncated_share
        }
        for chosen, max_seq_len, share in sorted(cut, key=str):
            yield (
                f"{share:.1%} of the training rows of {self.datasets[chosen.dataset].name} are longer than "
                f"max_seq_len {max_seq_len} under the tokenizer of {chosen.model} and are cut without a word."
            )

    def lengths(self, cells: Sequence[PlannedCell]) -> Iterator[str]:
        """How long the training rows are, for each tokenizer, dataset and prompt."""
        trained = {
            (cell.chosen, spec.max_seq_len) for cell in cells if cell.chosen and (spec := cell.finetune)
        }
        for chosen, max_seq_len in sorted(trained, key=str):
            counted = catalogue.length_summary(self.workloads.lengths(chosen), max_seq_len)
            prompt = f" with the prompt {chosen.prompt}" if chosen.prompt else ""
            yield (
                f"Training rows of {self.datasets[chosen.dataset].name}{prompt} under the tokenizer of "
                f"{chosen.model}: {counted.mean:.1f} tokens on average, 95 % have at most {counted.p95}, the longest "
                f"has {counted.longest}; {counted.truncated_share:.1%} are cut at max_seq_len {max_seq_len}."
            )


def look_up(document: ExperimentDocument, *, now: datetime) -> Found:
    """Everything that the document names. Raises InvalidDocument with all that is missing or broken."""
    told = _defaults()
    problems: list[Problem] = []
    names = documents.models_named(document) if document.trains else []
    found = Found(
        models=_each(names, catalogue.find_model, problems),
        datasets=_each(_sources(document), lambda source: _dataset(source, told), problems),
        adapters=_each(layout.adapters_named(document), find_adapter, problems),
        prompts=document.prompts,
        recipe_files=_each(documents.own_recipes(document), _recipe_file, problems),
        defaults=told,
        now=now,
    )
    problems += [problem for model in found.models.values() for problem in _not_trainable(model)]
    if _is_trained(document):
        problems += _without_training_rows(found.datasets.values())
    if problems:
        raise InvalidDocument(problems)
    return found


def _defaults() -> Defaults:
    try:
        return defaults.load(settings.DEFAULTS_FILE)
    except BadDefaults as bad:
        remedy = "Correct the lab's file of defaults, or unset LABMGR_DEFAULTS."
        raise InvalidDocument([Problem("", str(bad), remedy)]) from bad


def _positions(config: Mapping[str, Any]) -> int:
    said = config.get("max_position_embeddings")
    is_count = isinstance(said, int) and not isinstance(said, bool) and said > 0
    return int(said) if is_count and said is not None else MAX_POSITION_EMBEDDINGS


def _each(
    named: Mapping[str, _Named] | Iterable[str], find: Callable[[Any], _Thing], problems: list[Problem]
) -> dict[str, _Thing]:
    """What is found, by its name; what is not goes to the problems."""
    found: dict[str, _Thing] = {}
    for name, what in named.items() if isinstance(named, Mapping) else ((name, name) for name in named):
        try:
            found[name] = find(what)
        except (NotFound, AdapterNotFound) as missing:
            problems.append(missing.problem)
        except InvalidDocument as invalid:
            problems += invalid.problems
    return found


def _dataset(source: _Source, told: Defaults) -> FoundDataset:
    return catalogue.find_dataset(_with_defaults(source, told))


def _recipe_file(name: str) -> str:
    return str(recipes.own_file(name, settings.RECIPE_ROOTS))


def _sources(document: ExperimentDocument) -> dict[str, _Source]:
    only = {} if document.dataset is None else {ONLY: document.dataset}
    return {**only, **document.datasets}


def _with_defaults(source: _Source, told: Defaults) -> _Source:
    if not isinstance(source, GeneratorCall):
        return source
    return GeneratorCall.model_validate({"train_fraction": told.train_fraction, **source.model_dump()})


def _is_trained(document: ExperimentDocument) -> bool:
    """Whether any cell is fine-tuned, and not only evaluated."""
    return (
        len(layout.adapters_named(document)) < len(document.cells)
        or not document.cells
        or bool(document.factors)
    )


def _not_trainable(model: FoundModel) -> list[Problem]:
    why = model.facts.not_trainable
    return [Problem("factors.model", f"Model {model.name!r}: {why}", "Use another model.")] if why else []


def _without_training_rows(datasets: Iterable[FoundDataset]) -> list[Problem]:
    return [
        Problem(
            "dataset",
            f"{dataset.path} has no rows in a split 'train'.",
            f"It has: {', '.join(dataset.facts.split_rows)}.",
        )
        for dataset in datasets
        if not dataset.facts.split_rows.get(TRAIN)
    ]


def _data(dataset: FoundDataset) -> Data:
    sources: dict[str, DataSource] = {split: dataset.data_source(split) for split in dataset.facts.split_rows}
    return Data(split_rows=dataset.facts.split_rows, sources=sources)
