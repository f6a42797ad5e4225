"""From the facts of a file to observations: each fact once, with all that is known of its conditions, and by whom."""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.catalogue import NotFound
from experiments.conditions import Conditions, from_columns, to_columns
from experiments.harvest import contradiction
from experiments.models import Observation
from experiments.prior import workloads
from experiments.prior.facts import RawFact, Start
from experiments.prior.files import Found
from experiments.prior.saying import DATASET, Said
from experiments.saying import ALIASES
from experiments.telling import judge, known_model, with_said


@dataclass(frozen=True)
class Kept:
    observation: Observation
    was_known: bool
    was_completed: bool  # by what was said now, having been incomplete before
    problem: str = ""  # why what was said of the dataset is of no use


def keep(
    fact: RawFact,
    start: Start,
    found: Found,
    *,
    root: Path,
    told: Mapping[str, Any],
    said: Said,
    now: datetime,
) -> Kept:
    """Twice is the same as once, but for what has become known since."""
    conditions, base = known_model(workloads.packed(Conditions(**told)))
    fingerprint = _fingerprint(fact, start)
    before = Observation.objects.filter(fingerprint=fingerprint).first()
    if before is not None and before.is_complete:
        _grow(before, fact)
        return Kept(before, True, False)
    row = before or Observation(
        metric=fact.metric,
        unit=fact.unit,
        is_bound=fact.is_bound,
        source_file=str(found.path),
        source_line=fact.line,
        source_tree=str(root),
        fingerprint=fingerprint,
        observed_at=now,
    )
    row.value = fact.value
    row.base_model = row.base_model or base
    _fill(row, conditions)
    row, problem = _with_what_was_said(row, said, now)
    row.save()
    return Kept(row, before is not None, before is not None and row.is_complete, problem)


def not_taken(told: Mapping[str, Any], said: Said) -> Iterator[str]:
    """What was said otherwise than the source says it; the source stands."""
    for key in said.raw:
        name = ALIASES.get(key, key)
        if name in told and told[name] != said.values[name]:
            yield f"{key} is {told[name]!r} there, and not {said.values[name]!r}"


def _grow(row: Observation, fact: RawFact) -> None:
    """The file may have gone on since it was read."""
    if not row.is_bound and row.value != fact.value:
        row.value = fact.value
        row.save()


def _fill(row: Observation, conditions: Conditions) -> None:
    for name, value in to_columns(conditions).items():
        if getattr(row, name) in (None, ""):
            setattr(row, name, value)


def _with_what_was_said(row: Observation, said: Said, now: datetime) -> tuple[Observation, str]:
    """What contradicts the log is not taken, so that it may be said right another time."""
    completed = with_said(copy.copy(row), said.values, said.raw, said.by)
    _fill(completed, workloads.packed(from_columns(completed)))
    problem = _take_lengths(completed, said, now)
    judge(completed)
    judge(row)
    wrong = contradiction(from_columns(completed))
    if not wrong or contradiction(from_columns(row)):
        return completed, problem
    row.is_complete = False
    row.incomplete_because = f"{wrong} So what was said of it was not taken ({_as_said(said)})."
    return row, problem


def _take_lengths(row: Observation, said: Said, now: datetime) -> str:
    """Returns why it cannot, if so: the model is not known here, or has no tokenizer."""
    if said.dataset is None:
        return ""
    known = from_columns(row)
    try:
        measured = workloads.of_dataset(known, said.dataset, now=now)
    except NotFound as missing:
        return f"{row.source_file}: {missing.problem.message} {missing.problem.remedy}"
    if measured != known:
        _fill(row, measured)
        row.completed_by = said.by
        row.said = {**row.said, DATASET: said.dataset.name}
    return ""


def _as_said(said: Said) -> str:
    dataset = {DATASET: said.dataset.name} if said.dataset else {}
    return ", ".join(f"{key}={value}" for key, value in {**said.raw, **dataset}.items())


def _fingerprint(fact: RawFact, start: Start) -> str:
    """By what the log says and not by where it lies: a tree that was moved adds nothing.

    Neither figure nor line are in it, since both move when a log goes on; a start has one fact of a kind.
    """
    return hashlib.sha256(f"{start.identity} {fact.metric}".encode()).hexdigest()
