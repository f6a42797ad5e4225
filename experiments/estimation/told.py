"""Answers from what a person told: what was told must match, what was not is taken as the same."""

from experiments.conditions import EVALUATE, FIELDS, Conditions
from experiments.estimation import forms
from experiments.estimation.evidence import Evidence
from experiments.estimation.facts import Fact
from experiments.estimation.features import SAME_WITHIN
from experiments.estimation.forms import Form
from experiments.estimation.groups import Answer
from experiments.figures import Grade

_SETTINGS = ("batch_size", "gradient_accumulation_steps", "max_seq_len", "lora_rank", "packed", "world_size")


def from_a_person(evidence: Evidence, conditions: Conditions, metric: str) -> Answer | None:
    """Of what matches, what says most of its conditions, and of several such the latest."""
    form = forms.of(metric, conditions)
    if form is None:
        return None
    matching = [fact for fact in told_of(evidence, form) if not contradictions(form, fact, conditions)]
    if not matching:
        return None
    best = max(matching, key=lambda fact: (len(_said(form, fact)), fact.observed_at, fact.id))
    return Answer(
        value=best.value, grade=Grade.TOLD, n=1, observations=(best.id,), note=_note(form, best), reach={}
    )


def told_of(evidence: Evidence, form: Form) -> list[Fact]:
    """What was told without its recipe may speak of a fine-tune or of an evaluation."""
    return [
        fact for index in evidence.indexes() for fact in index.told if _metric(index.form) == _metric(form)
    ]


def contradictions(form: Form, fact: Fact, conditions: Conditions) -> list[str]:
    """The conditions that were told and are others here."""
    return [
        name
        for name in _said(form, fact)
        if not _is_same(getattr(fact.conditions, name), getattr(conditions, name))
    ]


def _said(form: Form, fact: Fact) -> list[str]:
    """The conditions that move this figure and that the person told."""
    moves = {*form.fields, *form.features, *_SETTINGS}
    moves.add("model_shape" if fact.conditions.model_shape else "model_name")
    return [name for name in FIELDS if name in moves and getattr(fact.conditions, name) not in (None, "")]


def _is_same(told: object, asked: object) -> bool:
    if isinstance(told, float) and isinstance(asked, int | float):
        return abs(told - asked) <= SAME_WITHIN * abs(told)
    return told == asked


def _note(form: Form, fact: Fact) -> str:
    said = _said(form, fact)
    conditions = ", ".join(f"{name} {getattr(fact.conditions, name)}" for name in said)
    return f"Told by a person for {conditions or 'no condition'}; all else is taken as the same."


def _metric(form: Form) -> str:
    return form.name.removeprefix(f"{EVALUATE} ")
