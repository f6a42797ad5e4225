"""What the layout is made from and makes: found things in, planned cells out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experiments import defaults
from experiments.defaults import Defaults
from experiments.documents import TrainingSettings
from experiments.specs import DataSource, FinetuneSpec, ProbeSpec, Resources, RunSpec, Workload
from experiments.states import CellType, RunKind

ONLY = "dataset"  # the name of a document's one dataset, where it does not name several

CountWorkload = Callable[[TrainingSettings, "Chosen", int], Workload | None]  # the last: devices


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a cell is made from."""

    model: str
    dataset: str = ONLY
    prompt: str | None = None

    @property
    def dataset_in_words(self) -> str:
        return "The dataset" if self.dataset == ONLY else f"The dataset {self.dataset!r}"


@dataclass(frozen=True, kw_only=True)
class Data:
    """A dataset as it was found: the rows of its splits, and where each is read."""

    split_rows: Mapping[str, int]
    sources: Mapping[str, DataSource]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    path: str
    rank: int


def _not_counted(settings: TrainingSettings, chosen: Chosen, devices: int) -> Workload | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a document names, as it was found."""

    model_paths: Mapping[str, str] = field(default_factory=dict)
    max_model_lens: Mapping[str, int] = field(default_factory=dict)
    parameter_counts: Mapping[str, int] = field(default_factory=dict)
    datasets: Mapping[str, Data] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    recipe_files: Mapping[str, str] = field(default_factory=dict)  # of the lab's own recipes
    workload: CountWorkload = _not_counted
    defaults: Defaults = field(default_factory=defaults.load)
    longest_row: int = 0  # the largest max_seq_len of any cell, so that all evaluations can share an engine

    def source(self, chosen: Chosen, split: str) -> DataSource:
        """Where a split is read; a chosen prompt goes before the dataset's own."""
        source = self.datasets[chosen.dataset].sources[split]
        if chosen.prompt is None:
            return source
        return replace(source, system_prompt=self.prompts[chosen.prompt] or None)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    kind: RunKind
    name: str
    spec: RunSpec
    resources: Resources
    builds_on: str | None = None  # the name of a run of the same cell


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    name: str
    type: CellType
    levels: Mapping[str, Any]
    runs: tuple[PlannedRun, ...]
    chosen: Chosen | None = None  # None for programs of the lab's own
    seed: int = 0
    settings: TrainingSettings | None = None  # of a fine-tune, defaults filled in

    @property
    def model(self) -> str | None:
        return self.chosen.model if self.chosen else None

    @property
    def dataset(self) -> str | None:
        return self.chosen.dataset if self.chosen else None

    @property
    def finetune(self) -> FinetuneSpec | None:
        """Of a fine-tune, or of the one that a probe is a short piece of."""
        for run in self.runs:
            if isinstance(run.spec, FinetuneSpec):
                return run.spec
            if isinstance(run.spec, ProbeSpec):
                return run.spec.finetune
        return None
