"""What a person says about earlier work as a whole: conditions, and the dataset that it was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments import catalogue
from experiments.catalogue import FoundDataset, NotFound
from experiments.documents import InvalidDocument
from experiments.saying import conditions_said

DATASET = "dataset"  # no condition itself: the lengths of the batches follow from it


@dataclass(frozen=True, kw_only=True)
class Said:
    by: str
    raw: Mapping[str, Any]  # as it was said
    values: Mapping[str, Any]  # by the fields of Conditions
    dataset: FoundDataset | None = None


def understood(said: Mapping[str, Any], *, by: str) -> Said:
    """Raises InvalidDocument for conditions that do not exist or fit, and for a dataset that is not there."""
    values = conditions_said(said, besides=(DATASET,))
    conditions = {key: value for key, value in said.items() if key != DATASET}
    if DATASET not in said:
        return Said(by=by, raw=conditions, values=values)
    try:
        dataset = catalogue.find_dataset(str(said[DATASET]))
    except NotFound as missing:
        raise InvalidDocument([missing.problem]) from missing
    return Said(by=by, raw=conditions, values=values, dataset=dataset)
