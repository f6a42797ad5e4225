"""What pydantic finds wrong, in our words: one problem a place, with what to do about it."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from experiments.documents.problems import MAX_PROBLEMS, Problem, joined, nearest, shown
from experiments.documents.schema import (
    Command,
    DatasetFile,
    Evaluation,
    ExperimentDocument,
    Limits,
    Needs,
    Simulated,
    TrainingSettings,
    Validation,
)

_SECTIONS: Mapping[str, type[BaseModel]] = {
    "dataset": DatasetFile,
    "datasets": DatasetFile,
    "evaluation": Evaluation,
    "validation": Validation,
    "resources": Needs,
    "limits": Limits,
    "command": Command,
    "simulated": Simulated,
}
_WHOLE = ("{given} is no whole number.", "Give a whole number.")
_NUMBER = ("{given} is no number.", "Give a number.")
_TRUTH = ("{given} is neither true nor false.", "Write true or false.")
_MAPPING = ("{given} is no mapping.", "Write it as {{key: value}}.")
_NAME = "Use at most 100 letters, digits, dots, hyphens and underscores, the first a letter or a digit."
_WORDS: Mapping[str, tuple[str, str]] = {
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _TRUTH,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "string_type": ("{given} is no text.", "Write a text, in quotes if it looks like something else."),
    "string_too_short": ("It is empty.", "Write something, or leave the key out."),
    "string_pattern_mismatch": ("{given} is no name.", _NAME),
    "tuple_type": ("{given} is no list.", "Write a list, also of one: [...]."),
    "too_short": ("The list is empty.", "Give at least one, or leave the key out."),
    "missing": ("There is no {key!r}.", "Add `{key}: ...`."),
    "greater_than_equal": ("{given} is less than {ge}.", "Give {ge} or more."),
    "less_than_equal": ("{given} is more than {le}.", "Give {le} or less."),
    "greater_than": ("{given} is not more than {gt}.", "Give more than {gt}."),
    "less_than": ("{given} is not less than {lt}.", "Give less than {lt}."),
    "level": ("{given} is no level.", "A level is one text, one number, true or false."),
    "dataset": (
        "{given} is no dataset.",
        "Write a name or path, {{path: FILE}} or {{generator: NAME, ...}}.",
    ),
    "validation": ("{given} does not say how to validate.", "Write false, or {{every_n_steps: 50}}."),
}

_IS_A_VALIDATORS = re.compile(r"<\w+>|\[key\]")  # a part of a location, rather than a key of the document


def problems_of(error: ValidationError, prefix: str = "") -> list[Problem]:
    """Of a whole document, or of the part of it that is called `prefix`."""
    details = [detail for detail in error.errors() if not _is_consequence(detail)]
    return [_problem(detail, prefix) for detail in details[:MAX_PROBLEMS]]


def problems_of_setting(key: str, value: Any, path: str) -> list[Problem]:
    """What is wrong with one training setting, found at this path."""
    try:
        TrainingSettings.model_validate({key: value})
    except ValidationError as error:
        details = [
            detail for detail in error.errors() if detail["loc"][0] == key
        ]  # not those that are absent
        return [_in_words(detail, joined(path, *detail["loc"][1:])) for detail in details]
    return []


def _problem(detail: Any, prefix: str) -> Problem:
    *before, last = map(str, detail["loc"])
    section = [part for part in before if not _IS_A_VALIDATORS.fullmatch(part)]
    if detail["type"] == "extra_forbidden":
        return _unknown([*section, last])  # the key is the person's own, whatever it looks like
    return _in_words(detail, joined(prefix, *section, *([] if _IS_A_VALIDATORS.fullmatch(last) else [last])))


def _in_words(detail: Any, path: str) -> Problem:
    given, kind, told = shown(detail["input"]), detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", told["expected"])
        return Problem(path, f"{given} is none of {', '.join(known)}.", nearest(f"{detail['input']}", known))
    message, remedy = _WORDS.get(kind, ("{given} cannot be used: {reason}.", "Correct the value."))
    words = {**told, "given": given, "key": detail["loc"][-1], "reason": detail["msg"]}
    return Problem(path, message.format(**words), remedy.format(**words))


def _unknown(location: list[str]) -> Problem:
    *section, key = location
    path, message = joined(*location), f"Unknown key {shown(key)}."
    if not section and key in TrainingSettings.model_fields:
        remedy = f"It is a setting: write it under fixed, or its levels under factors: {{{key}: [...]}}."
        return Problem(path, message, remedy)
    schema = _SECTIONS[section[0]] if section else ExperimentDocument
    return Problem(path, message, nearest(key, schema.model_fields))


def _is_consequence(detail: Any) -> bool:
    """A list that is empty only because none of its items was taken; its items are told already."""
    return detail["type"] == "too_short" and bool(detail["input"])
