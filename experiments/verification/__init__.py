"""Datasets and models on disk: under a declared root, whole, counted, hashed, and what is odd about them."""

from experiments.verification.datasets import DatasetFacts, read_dataset, read_rows
from experiments.verification.errors import VerificationError
from experiments.verification.findings import Finding
from experiments.verification.models import ModelFacts, read_model
from experiments.verification.paths import available, creatable_under, file_hash, resembling, resolve_under
from experiments.verification.rows import Columns

__all__ = [
    "Columns",
    "DatasetFacts",
    "Finding",
    "ModelFacts",
    "VerificationError",
    "available",
    "creatable_under",
    "file_hash",
    "read_dataset",
    "read_model",
    "read_rows",
    "resembling",
    "resolve_under",
]
