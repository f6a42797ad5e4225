"""A mapping checked against the schema, with every problem that is found. Unknown keys come with the nearest known."""

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from experiments.documents import checks
from experiments.documents.loading import storable
from experiments.documents.problems import MAX_PROBLEMS, InvalidDocument
from experiments.documents.schema import ExperimentDocument, TrainingSettings
from experiments.documents.wording import problems_of


def parse(data: Mapping[str, Any]) -> ExperimentDocument:
    """Raises InvalidDocument with every problem found, and nothing else."""
    try:
        document = ExperimentDocument.model_validate(storable(data))
    except ValidationError as error:
        raise InvalidDocument(problems_of(error)) from error
    problems = list(itertools.islice(checks.problems(document), MAX_PROBLEMS))
    if problems:
        raise InvalidDocument(list(dict.fromkeys(problems)))
    return document


def json_schema() -> dict[str, Any]:
    """Of the whole document, for those who write or check documents by other programs."""
    schema = ExperimentDocument.model_json_schema()
    settings = TrainingSettings.model_json_schema()["properties"]
    names = {name: {"type": "string"} for name in ("model", "dataset", "prompt")}
    schema["properties"]["fixed"] |= {
        "properties": names | {key: _for_all_or_by_model(key, one) for key, one in settings.items()},
        "additionalProperties": False,
    }
    return schema


def _for_all_or_by_model(key: str, one: dict[str, Any]) -> dict[str, Any]:
    if key == "torchtune":
        return one
    told = {word: one[word] for word in ("title", "description", "default") if word in one}
    return told | {"anyOf": [one, {"type": "object", "additionalProperties": one}]}
