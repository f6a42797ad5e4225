"""From a text to a mapping that a database can keep."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from experiments.documents.problems import (
    MAX_PROBLEMS,
    InvalidDocument,
    Problem,
    joined,
    refused,
    shown,
)

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_DEPTH = 20
_MAX_INTEGER_BITS = 63
_MAX_FLOAT_BITS = 1000
_AS_TEXT_OR_NUMBER = "Write it as text, in quotes, or as a number."
_Place = tuple[Any, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-4 is the number that everybody means, and a key that is given twice is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                message = (
                    f"The key {key.value!r:.100} is given twice, again in line {key.start_mark.line + 1}."
                )
                raise refused(joined(key.value), message, "Keep one of the two.")
            seen.add(str(key.value))
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load(text: str) -> dict[str, Any]:
    """The mapping in a YAML or JSON text. Raises InvalidDocument."""
    try:
        if len(text.encode()) > MAX_DOCUMENT_BYTES:
            raise refused("", f"The document is larger than {MAX_DOCUMENT_BYTES} bytes.", "Shorten it.")
        data = read_value(text)
    except (yaml.YAMLError, ValueError) as error:
        raise refused("", f"It is not YAML: {error}.", "Correct the line named.") from error
    except RecursionError as error:
        raise refused("", "It is nested too deeply.", "Flatten it.") from error
    if not isinstance(data, dict):
        raise refused("", "It is not a mapping of keys to values.", "Begin with `name: ...`.")
    return storable(data)


def read_value(text: str) -> Any:
    """What a YAML text stands for: plain values only. Raises yaml.YAMLError, ValueError, RecursionError."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader


def storable(data: Mapping[str, Any]) -> dict[str, Any]:
    """YAML knows anchors that grow without end, dates, infinities and NULs; the database's JSON does not.

    Returns the mapping unchanged. Raises InvalidDocument.
    """
    size = 0
    problems: list[Problem] = []
    for place, value, is_key in _nodes(data):
        size += len(value) if isinstance(value, str) else 1
        if size > MAX_DOCUMENT_BYTES:
            raise refused("", "It is too large once its anchors are written out.", "Shorten it.")
        problems += _of_key(place, value) if is_key else _of_value(place, value)
        if len(problems) >= MAX_PROBLEMS:
            break
    if problems:
        raise InvalidDocument(problems)
    return dict(data)


def _nodes(value: Any, place: _Place = ()) -> Iterator[tuple[_Place, Any, bool]]:
    """Every key and value with its place, and whether it is a key."""
    if len(place) > MAX_DEPTH:
        raise refused(
            joined(place[0]), "It is nested too deeply, or an anchor contains itself.", "Flatten it."
        )
    yield place, value, False
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield (*place, key), key, True
            yield from _nodes(item, (*place, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _nodes(item, (*place, number))


def _of_key(place: _Place, key: Any) -> list[Problem]:
    if isinstance(key, str):
        return _of_text(place, key)
    message = f"The key {shown(key)} is no text."
    if isinstance(key, bool):
        message += " YAML takes yes, no, on and off for true and false."
    return [Problem(joined(*place), message, f"Put it in quotes: '{shown(key)}'.")]


def _of_value(place: _Place, value: Any) -> list[Problem]:
    if isinstance(value, str):
        return _of_text(place, value)
    if value is None or isinstance(value, bool | Mapping | list | tuple):
        return []
    if isinstance(value, int):
        return [] if value.bit_length() <= _MAX_INTEGER_BITS else [_too_large(place, value)]
    if isinstance(value, float) and math.isfinite(value):
        return []
    message = f"{value!s:.100} ({type(value).__name__}) is a value that JSON cannot hold."
    return [Problem(joined(*place), message, _AS_TEXT_OR_NUMBER)]


def _too_large(place: _Place, value: int) -> Problem:
    shown_value = f"{value:.3e}" if value.bit_length() < _MAX_FLOAT_BITS else "The number"
    return Problem(
        joined(*place), f"{shown_value} is too large.", "Give a smaller one, or write it as text, in quotes."
    )


def _of_text(place: _Place, text: str) -> list[Problem]:
    if "\0" in text:
        return [Problem(joined(*place), "It contains a NUL character.", "Remove it.")]
    if any("\ud800" <= character <= "\udfff" for character in text):
        return [Problem(joined(*place), "It contains half a character (a lone surrogate).", "Remove it.")]
    return []
