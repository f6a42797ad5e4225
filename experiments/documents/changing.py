"""Documents that evidence or an answer changes: the same document with other values in places."""

import copy
from collections.abc import Mapping
from typing import Any

from experiments.documents.named import models_named
from experiments.documents.parsing import parse


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with new values at dotted paths, such as fixed.epochs. Raises InvalidDocument for what `data` is not.

    A mapping under `fixed` gives values by model: a value for all is spread over the models first, and models that
    nothing is said of keep the default.
    """
    document = parse(data)
    new = copy.deepcopy(dict(data))
    for path, value in changes.items():
        *sections, last = path.split(".")
        place = new
        for section in sections:
            place = place.setdefault(section, {})
        if sections == ["fixed"] and isinstance(value, Mapping) and last != "torchtune":
            value = {**_by_model(place, last, models_named(document)), **value}
        place[last] = value
    return new


def _by_model(fixed: Mapping[str, Any], key: str, models: list[str]) -> Mapping[str, Any]:
    if key not in fixed:
        return {}
    before = fixed[key]
    return before if isinstance(before, Mapping) else dict.fromkeys(models, before)
