"""What the keys of a document say together: what names what, what contradicts what, what says nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

from experiments.documents.choices import of_settings
from experiments.documents.named import ADAPTER
from experiments.documents.problems import Problem, joined, nearest, shown
from experiments.documents.schema import ExperimentDocument, Level

RESERVED_NAMES = frozenset({"plan"})  # /api/v1/experiments/plan/ is a call
_SUBJECTS = ("dataset", "datasets", "command", "simulated")
_OF_MODELS = ("prompts", "fixed", "validation", "control", "evaluation")  # they say nothing of programs


def problems(document: ExperimentDocument) -> Iterator[Problem]:
    if document.name in RESERVED_NAMES:
        yield Problem("name", f"The name {document.name!r} is reserved.", "Use another one.")
    yield from _about_repeats(document)
    yield from _about_exclusions(document)
    yield from _about_seeds(document)
    given = [subject for subject in _SUBJECTS if getattr(document, subject)]
    if len(given) != 1:
        message = f"The document has {' and '.join(given) or 'none of them'}."
        remedy = "Give exactly one of dataset, datasets, command and simulated."
        yield Problem(given[-1] if given else "dataset", message, remedy)
    elif document.trains:
        yield from of_settings(document)
        yield from _about_evaluation(document)
    else:
        yield from _about_programs(document, given[0])


def same(one: Level, other: Level) -> bool:
    """Whether two levels are one: 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _about_repeats(document: ExperimentDocument) -> Iterator[Problem]:
    lists: dict[str, Iterable[Level]] = {
        f"factors.{name}": levels for name, levels in document.factors.items()
    }
    lists["seeds"] = document.seeds
    lists["evaluation.scorers"] = document.evaluation.scorers if document.evaluation else ()
    for path, values in lists.items():
        seen: list[Level] = []
        for number, value in enumerate(values):
            if any(same(value, one) for one in seen):
                yield Problem(joined(path, number), f"{shown(value)} is given twice.", "Keep one of the two.")
            seen.append(value)


def _about_exclusions(document: ExperimentDocument) -> Iterator[Problem]:
    for number, levels in enumerate(document.exclude):
        if not levels:
            yield Problem(
                f"exclude.{number}", "It has no levels, so it would match every cell.", "Leave it out."
            )
        for factor, level in levels.items():
            path = joined("exclude", number, factor)
            if factor not in document.factors:
                yield Problem(path, f"{factor!r:.100} is no factor.", nearest(factor, document.factors))
            elif not any(same(level, known) for known in document.factors[factor]):
                known = ", ".join(shown(known) for known in document.factors[factor])
                yield Problem(path, f"{shown(level)} is no level of {factor}.", f"It has: {known}.")


def _about_seeds(document: ExperimentDocument) -> Iterator[Problem]:
    if not document.seeds:
        return
    cells = [f"cells.{number}" for number, cell in enumerate(document.cells) if "seed" in cell]
    sections = [("factors", document.factors), ("fixed", document.fixed)]
    for place in [*(name for name, keys in sections if "seed" in keys), *cells]:
        yield Problem(f"{place}.seed", "`seeds` is given, too.", "Keep one of the two.")


def _about_evaluation(document: ExperimentDocument) -> Iterator[Problem]:
    if document.control and document.evaluation is None:
        message = "A control is the base model evaluated as it is, and there is no evaluation."
        yield Problem("control", message, "Add evaluation: {split: test}, or leave control out.")
    if document.keep == "best" and not document.validation:
        message = "The best epoch is the one with the lowest validation loss, and nothing is validated."
        yield Problem("keep", message, "Add validation: {every_n_steps: 50}, or use keep: last.")


def _about_programs(document: ExperimentDocument, subject: str) -> Iterator[Problem]:
    idle: list[Any] = [key for key in _OF_MODELS if getattr(document, key)]
    idle += ["keep"] if document.keep != "all" else []
    idle += [f"cells.{number}.{ADAPTER}" for number, cell in enumerate(document.cells) if ADAPTER in cell]
    for path in idle:
        message = f"It is about models, and this experiment is about a {subject} program."
        yield Problem(path, message, "Leave it out.")
