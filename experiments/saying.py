"""What people say as KEY=VALUE, and conditions among it, typed by the column that they go to."""

import math
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args, get_type_hints

import yaml

from experiments.conditions import FIELDS, TEXT_LIMITS, Conditions
from experiments.documents import InvalidDocument, Problem, nearest, read_value, shown, storable

ALIASES = {
    "device": "device_kind",
    "model": "model_name",
    "rank": "lora_rank",
    "accumulation": "gradient_accumulation_steps",
}
_TYPES = get_type_hints(Conditions)
_LARGE = ("parameter_count", "trainable_parameters", "tokens_per_step", "squares_per_step")
_MAX_OF_MOST, _MAX_OF_LARGE = 2**31 - 1, 2**63 - 1  # what their columns hold
_MAX_VALUE = 1000  # characters, as typed


def pairs(texts: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE texts as a mapping, the values read as YAML. Raises InvalidDocument."""
    said: dict[str, str] = {}
    problems: list[Problem] = []
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not key or not equals:
            message = f"{text!r:.100} is not KEY=VALUE."
            problems.append(Problem(key or "?", message, "Write such as packed=false."))
        elif key in said:
            problems.append(Problem(key, f"{key} is said twice.", "Say it once."))
        said[key] = value
    if problems:
        raise InvalidDocument(problems)
    return {key: typed_value(key, value) for key, value in said.items()}


def typed_value(key: str, text: str) -> Any:
    """What a person typed for a key: a number, true or false, a text, a mapping. Raises InvalidDocument."""
    try:
        if len(text) > _MAX_VALUE:
            raise ValueError(f"longer than {_MAX_VALUE} characters")
        return storable({key: read_value(text)})[key]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = f"{text[:50]!r} cannot be read: {error}."
        raise InvalidDocument([Problem(key, message, "Correct the value.")]) from error


def conditions_said(said: Mapping[str, Any], *, besides: Collection[str] = ()) -> dict[str, Any]:
    """Values by the fields of Conditions. Raises InvalidDocument for unknown names and values that do not fit.

    `besides` are names that may be said, too, and are no conditions themselves: they are left out.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in said.items():
        if key in besides:
            continue
        name = ALIASES.get(key, key)
        if name not in FIELDS:
            known = nearest(key, [*FIELDS, *ALIASES, *besides])
            problems.append(Problem(key, f"There is no condition {key!r:.100}.", known))
        elif name in values:
            problems.append(Problem(key, f"{name} is said twice.", "Say it once."))
        else:
            try:
                values[name] = _typed(name, value)
            except _Unfit as unfit:
                problems.append(Problem(key, f"{shown(value)} does not fit {name}.", str(unfit)))
    if problems:
        raise InvalidDocument(problems)
    return values


class _Unfit(Exception):
    """The value cannot be taken; the message says what could."""


def _typed(name: str, value: Any) -> Any:
    wanted = _wanted(name)
    if wanted is bool:
        if not isinstance(value, bool):
            raise _Unfit("Say true or false.")
        return value
    return _text(value, TEXT_LIMITS[name]) if wanted is str else _number(wanted, value, _largest(name))


def _number(wanted: type, value: Any, largest: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Unfit("Say a number.")
    if wanted is int and value != int(value):
        raise _Unfit("Say a whole number.")
    if not 0 <= value <= largest:
        raise _Unfit(f"Say a number from 0 to {largest}.")
    return wanted(value)


def _largest(name: str) -> int:
    return _MAX_OF_LARGE if name in _LARGE else _MAX_OF_MOST


def _text(value: Any, longest: int) -> str:
    text = str(value)
    is_single = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not is_single or not text.strip() or len(text) > longest or "\0" in text:
        raise _Unfit(f"Say a text of at most {longest} characters.")
    return text


def _wanted(name: str) -> type:
    hint = _TYPES[name]
    if isinstance(hint, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    wanted: type = hint
    return wanted
