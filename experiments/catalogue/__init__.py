"""Finding the datasets and models that a document names, and keeping what was verified of them."""

from experiments.catalogue.datasets import FoundDataset, find_dataset, make_missing, record_dataset
from experiments.catalogue.errors import NotFound
from experiments.catalogue.lengths import LengthSummary, length_summary, token_lengths
from experiments.catalogue.models import FoundModel, find_model, record_model
from experiments.verification import resembling

__all__ = [
    "FoundDataset",
    "FoundModel",
    "LengthSummary",
    "NotFound",
    "find_dataset",
    "find_model",
    "length_summary",
    "make_missing",
    "record_dataset",
    "record_model",
    "resembling",
    "token_lengths",
]
