"""What ran out of memory needs more than it had: a bound, never a measured peak."""

from dataclasses import replace

import numpy as np

from experiments.conditions import Conditions
from experiments.estimation import forms
from experiments.estimation.evidence import Evidence
from experiments.estimation.facts import Fact
from experiments.estimation.features import SAME_WITHIN, point
from experiments.estimation.groups import Answer

ABOVE = 1.0  # MiB: an estimate that a bound refutes is raised to just above it
_SETTINGS = ("batch_size", "max_seq_len", "packed")


def exceeded(evidence: Evidence, conditions: Conditions, metric: str) -> list[Fact]:
    """Bounds of runs that asked for no more than this one does."""
    form = forms.of(metric, conditions)
    if form is None:
        return []
    key = ("bounds", form.name, form.identity(conditions))
    bounds = evidence.once(key, lambda: evidence.index(form).bounds(conditions))
    return [bound for bound in bounds if _asks_as_much(form, conditions, bound.conditions)]


def raised(answer: Answer, bounds: list[Fact]) -> Answer:
    """The answer, above each of these bounds."""
    highest = max(bounds, key=lambda bound: bound.value, default=None)
    if highest is None or answer.value > highest.value:
        return answer
    return replace(
        answer,
        value=highest.value + ABOVE,
        observations=tuple(dict.fromkeys((*answer.observations, highest.id))),
        note=f"{answer.note} {sentence(highest)}".strip(),
    )


def sentence(bound: Fact) -> str:
    return f"A run that asked for no more than this had {bound.value:,.0f} MiB and needed more."


def _asks_as_much(form: forms.Form, conditions: Conditions, of_bound: Conditions) -> bool:
    asked, had = point(conditions, form.features), point(of_bound, form.features)
    needed = np.array(form.needed, dtype=bool)
    if np.isnan(asked[needed]).any() or np.isnan(had[needed]).any():
        return all(getattr(conditions, name) == getattr(of_bound, name) for name in _SETTINGS)
    return not bool((asked < had * (1 - SAME_WITHIN)).any())
