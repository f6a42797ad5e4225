"""Answers from facts of the same model in the same place."""

from collections.abc import Iterator
from dataclasses import replace

from experiments.conditions import Conditions
from experiments.estimation import forms
from experiments.estimation.evidence import Evidence, Index
from experiments.estimation.features import Array, point
from experiments.estimation.groups import Answer, Group
from experiments.figures import Grade

_WORDS = {"software": "versions", "co_runners": "numbers of jobs beside it"}


def direct(evidence: Evidence, conditions: Conditions, metric: str) -> Answer | None:
    """Measured under the same conditions, or else by a fit; None if these facts do not bear so far."""
    form = forms.of(metric, conditions)
    if form is None:
        return None
    at = point(conditions, form.features)
    key = ("direct", form.name, form.identity(conditions), at.tobytes())
    return evidence.once(key, lambda: _nearest(evidence.index(form), conditions, at))


def _nearest(index: Index, conditions: Conditions, at: Array) -> Answer | None:
    for ignored in _leniently(index.form.preferred):
        group = index.group(conditions, ignoring=ignored)
        answer = (group.measured(at) or group.fitted(at)) if group else None
        if group and answer:
            return _less_sure(answer, group, conditions, ignored) if ignored else answer
    return None


def _leniently(preferred: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What is ignored: nothing, then the last alone, each alone, all."""
    yield ()
    for name in reversed(preferred):
        yield (name,)
    if len(preferred) > 1:
        yield preferred


def _less_sure(answer: Answer, group: Group, conditions: Conditions, ignored: tuple[str, ...]) -> Answer:
    said = " ".join(_difference(group, conditions, name) for name in ignored)
    return replace(answer, grade=Grade.EXTRAPOLATED, note=f"{answer.note} {said}".strip())


def _difference(group: Group, conditions: Conditions, name: str) -> str:
    seen = sorted({str(getattr(fact.conditions, name)) for fact in group.facts})
    return f"Measured with other {_WORDS[name]}: {'; '.join(seen)}, and not {getattr(conditions, name)}."
