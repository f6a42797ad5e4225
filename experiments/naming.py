"""Names of cells: by the document's template, or derived from the factors that vary."""

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

from experiments.documents import ADAPTER, InvalidDocument, Problem, nearest

MAX_NAME = 150
_SHORT = {
    "lora_rank": "rank",
    "learning_rate": "lr",
    "batch_size": "bs",
    "epochs": "ep",
    "max_seq_len": "len",
}
_BARE = ("dataset", "prompt", "method")  # a level of these speaks for itself
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_BEGINNING = re.compile(r"[A-Za-z0-9]")
_ALLOWED = "Use letters, digits, dots, hyphens and underscores, first a letter or a digit."

Levels = Mapping[str, Any]


def cell_name(levels: Levels, fallback: str) -> str:
    """`{model}_rank{lora_rank}` and so on: the model first, then every other factor with its level."""
    parts = [_last_part(levels["model"])] if "model" in levels else []
    parts += [_part(factor, level) for factor, level in levels.items() if factor != "model"]
    return _legal("_".join(parts)).lstrip("._-") or fallback


def control_name(model: str, *choices: str) -> str:
    """Of the base model; `choices` are the dataset and the prompt, where they vary."""
    return _legal("_".join([_last_part(model), "base", *choices])).lstrip("._-")


def check_template(template: str, known: Iterable[str]) -> None:
    """Raises InvalidDocument for what a name must not have, and for fields that no cell has."""
    fields = list(known)
    pieces = _pieces(template)
    problems = []
    if bad := sorted({bad for literal, *_ in pieces for bad in re.findall(r"[^A-Za-z0-9._-]", literal)}):
        problems.append(_refused(f"{template!r:.200} has {''.join(bad)!r}.", _ALLOWED))
    for _, field, spec, conversion in pieces:
        if field is None:
            continue
        if spec or conversion:
            written = f"{{{field}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
            problems.append(_refused(f"{written} asks for a format.", f"Write {{{field}}} alone."))
        elif not field:
            problems.append(_refused("{} names no factor.", "Write {factor} for each part that varies."))
        elif field not in fields:
            problems.append(_refused(f"No cell has {field!r}.", nearest(field, fields)))
    if problems:
        raise InvalidDocument(problems)


def by_template(template: str, values: Levels) -> str:
    """Of a template that was checked. Raises InvalidDocument where a cell lacks what it asks for."""
    lacking = [field for field in sorted(fields_of(template)) if values.get(field) is None]
    if lacking:
        message = f"A cell has no {' and no '.join(lacking)}, which the template asks for."
        remedy = f"Say it for every cell, or leave {{{lacking[0]}}} out of the template."
        raise InvalidDocument([_refused(message, remedy)])
    return "".join(
        literal + (_legal(_text_of(field, values[field])) if field else "")
        for literal, field, _, _ in _pieces(template)
    )


def fields_of(template: str) -> set[str]:
    return {field for _, field, _, _ in _pieces(template) if field}


def refused(cells: Iterable[tuple[str, Levels]], *, template: str | None) -> list[Problem]:
    """What is wrong with the names of an experiment's cells, all of them together, given with their levels."""
    named: dict[str, list[Levels]] = {}
    for name, levels in cells:
        named.setdefault(name, []).append(levels)
    return [problem for name, levels in named.items() for problem in _about(name, levels, template)]


def _about(name: str, levels: Sequence[Levels], template: str | None) -> list[Problem]:
    problems = []
    if len(levels) > 1:
        message = f"{len(levels)} cells would be called {name!r:.200}."
        problems.append(_refused(message, _apart(levels, template), template))
    if len(name) > MAX_NAME:
        message = f"The name {name[:40]}... has {len(name)} characters."
        problems.append(_refused(message, f"At most {MAX_NAME} are allowed: set a name_template.", template))
    if not _BEGINNING.match(name):
        problems.append(_refused(f"The name {name!r:.200} does not begin well.", _ALLOWED, template))
    return problems


def _apart(levels: Sequence[Levels], template: str | None) -> str:
    """What would tell cells of one name apart."""
    factors = dict.fromkeys(factor for one in levels for factor in one)
    varying = [factor for factor in factors if len({repr(one.get(factor)) for one in levels}) > 1]
    if not varying:
        return "They are the same cell: keep one of them."
    fields = ", ".join(f"{{{factor}}}" for factor in varying)
    return f"Add {fields} to the template." if template else f"Set a name_template with {fields}."


def _refused(message: str, remedy: str, template: str | None = "") -> Problem:
    return Problem("factors" if template is None else "name_template", message, remedy)


def _part(factor: str, level: Any) -> str:
    if factor in _BARE:
        return str(level)
    if factor == ADAPTER:
        return f"adapter_{_last_part(level.rstrip('/').removesuffix('/finetune'))}"
    short = _SHORT.get(factor, factor)
    if isinstance(level, bool):
        return short if level else f"not-{short}"
    return f"{short}{level}"


def _text_of(field: str, value: Any) -> str:
    if isinstance(value, bool):
        return _part(field, value)
    return _last_part(value) if field == "model" else str(value)


def _last_part(path: Any) -> str:
    """`Llama-3.2-1B` of /models/Llama-3.2-1B and of meta-llama/Llama-3.2-1B."""
    return str(path).rstrip("/").rpartition("/")[2]


def _legal(text: str) -> str:
    return _ILLEGAL.sub("-", text)


def _pieces(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(Formatter().parse(template))
    except ValueError as error:
        message = f"{template!r:.200} cannot be read: {error}."
        raise InvalidDocument([_refused(message, "Write {factor} for each part that varies.")]) from error
