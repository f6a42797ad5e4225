"""The settings and choices of a document that trains: each at its place, each with a value that it takes."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.documents.named import (
    ADAPTER,
    CHOSEN,
    by_model,
    has_crossed_cells,
    models_named,
    models_trained,
)
from experiments.documents.problems import Problem, joined, nearest, shown
from experiments.documents.schema import ExperimentDocument, TrainingSettings
from experiments.documents.wording import problems_of_setting

_SETTINGS = tuple(TrainingSettings.model_fields)
_KNOWN = (*CHOSEN, *_SETTINGS)


def of_settings(document: ExperimentDocument) -> Iterator[Problem]:
    unfit = list(_about_values(document))
    yield from unfit
    for key in sorted(set(document.factors) & set(document.fixed)):
        yield Problem(joined("fixed", key), f"{key!r:.100} is a factor, too.", "Keep one of the two.")
    if unfit:  # what is said with such values would only confuse
        return
    yield from _about_what_cells_lack(document)
    yield from _about_names(document, "dataset", document.datasets)
    yield from _about_names(document, "prompt", document.prompts)
    yield from _about_models(document)
    yield from _about_adapters(document)


def _about_values(document: ExperimentDocument) -> Iterator[Problem]:
    for place, key, value in _said(document):
        path = joined(*place)
        if key == ADAPTER and place[0] == "cells":
            yield from [] if _is_name(value) else [_no_name(path, key, value)]
        elif key not in _KNOWN:
            yield _unknown(joined(*place[:-1]) if place[0] == "factors" else path, key, document)
        elif key in CHOSEN:
            yield from [] if _is_name(value) else [_no_name(path, key, value)]
        elif key == "torchtune" and place[0] != "fixed":
            message = "A cell has no torchtune keys of its own: all cells share them."
            yield Problem(path, message, "Write them under fixed.")
        elif isinstance(value, list | tuple):
            yield Problem(
                path, f"{shown(value)} is a list.", f"Several are a factor: factors: {{{key}: [...]}}."
            )
        else:
            yield from problems_of_setting(key, value, path)


def _said(document: ExperimentDocument) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
    """Every value that is said, with its place and the key that it is a value of."""
    for key, levels in document.factors.items():
        yield from ((("factors", key, number), key, level) for number, level in enumerate(levels))
    for number, cell in enumerate(document.cells):
        yield from ((("cells", number, key), key, level) for key, level in cell.items())
    for key, value in document.fixed.items():
        if key in _SETTINGS and by_model(key, value):
            yield from ((("fixed", key, model), key, one) for model, one in value.items())
        else:
            yield ("fixed", key), key, value


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _no_name(path: str, key: str, value: Any) -> Problem:
    if isinstance(value, list | tuple | Mapping):
        remedy = f"Name one here; several are a factor: factors: {{{key}: [...]}}."
    else:
        remedy = "Write its name, in quotes if it looks like something else."
    return Problem(path, f"{shown(value)} names no {key}.", remedy)


def _unknown(path: str, key: str, document: ExperimentDocument) -> Problem:
    message = f"Unknown setting {shown(key)}."
    if key in type(document).model_fields:
        return Problem(path, message, "It is a key of the document itself: write it at the left margin.")
    if key == ADAPTER:
        return Problem(path, message, "List the cell: cells: [{model: ..., adapter: ...}].")
    return Problem(path, message, nearest(key, _KNOWN))


def _about_what_cells_lack(document: ExperimentDocument) -> Iterator[Problem]:
    """A cell is of one model and, where several datasets are named, of one of them."""
    for factor in ("model", "dataset") if document.datasets else ("model",):
        if factor in document.fixed:
            continue
        if has_crossed_cells(document) and factor not in document.factors:
            yield Problem(f"factors.{factor}", f"No {factor} is named.", f"Add factors: {{{factor}: [...]}}.")
        for number, cell in enumerate(document.cells):
            if factor not in cell:
                message = f"The cell names no {factor}: {shown(cell)}."
                yield Problem(f"cells.{number}", message, f"Add {factor}: ... to it.")


def _about_names(document: ExperimentDocument, factor: str, named: Mapping[str, Any]) -> Iterator[Problem]:
    """`dataset` and `prompt` take the names that `datasets` and `prompts` give; who gives names uses them."""
    used: dict[str, str] = {}
    for place, key, value in _said(document):
        if key == factor:
            used.setdefault(value, joined(*place))
    for name, path in used.items():
        if name not in named:
            remedy = nearest(name, named) if named else f"Name it under {factor}s: {{{name}: ...}}."
            yield Problem(path, f"There is no {factor} {name!r} in this document.", remedy)
    for name in named:
        if name not in used:
            remedy = f"Add it to factors: {{{factor}: [...]}}, or leave it out."
            yield Problem(f"{factor}s.{name}", "No cell uses it.", remedy)


def _about_models(document: ExperimentDocument) -> Iterator[Problem]:
    """Settings by model name models of this document. Who is not named takes the default, but epochs have none."""
    models, trained = models_named(document), models_trained(document)
    for key, value in document.fixed.items():
        if not by_model(key, value):
            continue
        for name in value:
            if name not in models:
                message = f"{name!r:.100} is no model of this document."
                yield Problem(joined("fixed", key, name), message, nearest(name, models))
        lacking = [name for name in trained if name not in value]
        if lacking and (key == "epochs" or not value):
            message = f"{key} is not said for {', '.join(lacking)}."
            yield Problem(joined("fixed", key), message, "Give one for each model, or one for all.")


def _about_adapters(document: ExperimentDocument) -> Iterator[Problem]:
    for number, cell in enumerate(document.cells):
        if ADAPTER not in cell:
            continue
        if document.evaluation is None:
            message = "A cell with an adapter is evaluated only, and there is no evaluation."
            yield Problem(f"cells.{number}.adapter", message, "Add evaluation: {split: test}.")
        for key in cell:
            if key not in (*CHOSEN, ADAPTER):
                message = f"A cell with an adapter is not trained, so {key!r} says nothing."
                yield Problem(f"cells.{number}.{key}", message, "Leave it out.")
