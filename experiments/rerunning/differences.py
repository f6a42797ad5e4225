"""In which settings two specifications differ, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

_ABSENT = object()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One text for each key: "batch_size 4 is now 8"; keys of mappings within are joined by dots."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [_told(key, old, new) for key in {**old, **new} if old.get(key, _ABSENT) != new.get(key, _ABSENT)]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _told(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if key not in new:
        return f"{key} {old[key]} is gone"
    return f"{key} {old[key]} is now {new[key]}" if key in old else f"{key} is now {new[key]}"
