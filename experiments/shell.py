"""What the commands share: finding what a person named, and saying what is wrong with it."""

import difflib
from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError

from experiments import saying
from experiments.documents import InvalidDocument
from experiments.models import Experiment, Proposal, Run
from experiments.models.runs import RunQuerySet


def experiment_named(name: str) -> Experiment:
    """Raises CommandError, with the nearest name there is."""
    experiment = Experiment.objects.filter(name=name).first()
    if experiment is None:
        raise CommandError(f"There is no experiment {name!r}. {_nearest(name, _names())}")
    return experiment


def run_named(name: str) -> Run:
    """A run by its id, its name, or `experiment/name` where several experiments have it. Raises CommandError."""
    found = Run.every.filter(pk=int(name)) if name.isdigit() else _runs_called(name)
    runs = list(found.select_related("cell__experiment")[:2])
    if not runs:
        raise CommandError(f"There is no run {name!r}. See `status` for the runs of an experiment.")
    if len(runs) > 1:
        raise CommandError(f"Several experiments have a run {name!r}; say EXPERIMENT/{name} or give its id.")
    return runs[0]


def proposal_named(experiment_name: str, key: str) -> Proposal:
    """Raises CommandError, with the proposals that there are."""
    proposals = experiment_named(experiment_name).proposals.select_related("experiment")
    found = proposals.filter(key=key).first()
    if found is None:
        known = ", ".join(proposals.values_list("key", flat=True)) or "none"
        raise CommandError(f"Experiment {experiment_name!r} has no proposal {key!r}. It has: {known}.")
    return found


def settings_from(texts: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` arguments, their values read as YAML. Raises CommandError."""
    try:
        return saying.pairs(texts)
    except InvalidDocument as invalid:
        raise CommandError("\n".join(str(problem) for problem in invalid.problems)) from invalid


def problems_as_text(invalid: InvalidDocument) -> str:
    return "The document cannot be planned; nothing was stored.\n" + "\n".join(
        f"  {p}" for p in invalid.problems
    )


def _runs_called(name: str) -> RunQuerySet:
    experiment, _, rest = name.partition("/")
    named = Run.objects.filter(name=name)
    return named if named.exists() else Run.objects.filter(cell__experiment__name=experiment, name=rest)


def _names() -> list[str]:
    return list(Experiment.objects.values_list("name", flat=True)[:1000])


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else "See `status` for those there are."
