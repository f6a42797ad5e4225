"""The experiment document: one schema for files, API and admin. Unknown keys are errors, with the nearest known one."""

from experiments.documents.changing import changed
from experiments.documents.checks import same
from experiments.documents.loading import MAX_DOCUMENT_BYTES, load, read_value, storable
from experiments.documents.named import ADAPTER, has_crossed_cells, models_named, models_trained, own_recipes
from experiments.documents.parsing import json_schema, parse
from experiments.documents.problems import MAX_PROBLEMS, InvalidDocument, Problem, nearest, shown
from experiments.documents.schema import (
    DatasetFile,
    Evaluation,
    ExperimentDocument,
    GeneratorCall,
    TrainingSettings,
    Validation,
)
from experiments.documents.settings import said_settings, training_settings

__all__ = [
    "ADAPTER",
    "MAX_DOCUMENT_BYTES",
    "MAX_PROBLEMS",
    "DatasetFile",
    "Evaluation",
    "ExperimentDocument",
    "GeneratorCall",
    "InvalidDocument",
    "Problem",
    "TrainingSettings",
    "Validation",
    "changed",
    "has_crossed_cells",
    "json_schema",
    "load",
    "models_named",
    "models_trained",
    "nearest",
    "own_recipes",
    "parse",
    "read_value",
    "said_settings",
    "same",
    "shown",
    "storable",
    "training_settings",
]
