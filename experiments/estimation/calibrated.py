"""What is fitted to the facts of each group, to be shown to people."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.estimation.evidence import Evidence
from experiments.estimation.forms import Form
from experiments.estimation.groups import Group

MIN_FACTS = 2  # of one fact, a fit says no more than the fact


@dataclass(frozen=True, kw_only=True)
class Fitted:
    metric: str
    model_name: str  # as its newest fact has it; the shape is among the shared conditions
    shared: Mapping[str, Any]  # the conditions that all its facts have
    coefficients: Mapping[str, float]
    left_out: tuple[str, ...]
    error_ratio: float | None
    runs: int
    valid_from: Mapping[str, float]
    valid_to: Mapping[str, float]
    observations: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Unfitted:
    """A group before its fit, which is made when it is asked for."""

    metric: str
    shared: Mapping[str, Any]
    terms: tuple[str, ...]
    observations: tuple[int, ...]
    group: Group

    def fitted(self) -> Fitted | None:
        fit = self.group.fit
        if fit is None:
            return None
        return Fitted(
            metric=self.metric,
            model_name=self.group.facts[0].conditions.model_name,
            shared=self.shared,
            coefficients=fit.named_coefficients(),
            left_out=tuple(f"{name}: {reason}" for name, reason in fit.left_out.items()),
            error_ratio=fit.error_ratio,
            runs=self.group.runs,
            valid_from=self.group.lowest,
            valid_to=self.group.highest,
            observations=self.observations,
        )


def groups(evidence: Evidence, *, shapes: Collection[str] | None = None) -> Iterator[Unfitted]:
    """Of every metric, the groups that a fit is made of; of these models, or of all."""
    for index in evidence.indexes():
        for group in index.groups():
            if shapes is not None and group.facts[0].conditions.model_shape not in shapes:
                continue
            observations = tuple(fact.id for fact in group.fitted_facts)
            if len(observations) >= MIN_FACTS:
                yield _unfitted(index.form, group, observations)


def _unfitted(form: Form, group: Group, observations: tuple[int, ...]) -> Unfitted:
    newest = group.facts[0]
    shared = dict(zip(form.fields, form.identity(newest.conditions), strict=True))
    return Unfitted(
        metric=newest.metric,
        shared={name: value for name, value in shared.items() if value not in (None, "")},
        terms=tuple(term.name for term in form.terms),
        observations=observations,
        group=group,
    )
