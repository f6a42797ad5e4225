"""Answers from another device or another model, scaled by a ratio that was measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from experiments.conditions import Conditions
from experiments.estimation import forms
from experiments.estimation.direct import direct
from experiments.estimation.evidence import Evidence, Index
from experiments.estimation.features import SAME_WITHIN, point
from experiments.estimation.forms import Form
from experiments.estimation.groups import Answer, Group
from experiments.figures import Grade, worst

MAX_PAIRS = 30  # configurations that a ratio is measured on, the newest first
_IS_A_MEASURE = (Grade.MEASURED, Grade.INTERPOLATED)
Swap = Callable[[Conditions], Conditions]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    value: float
    pairs: int
    observations: tuple[int, ...]


def from_another_device(evidence: Evidence, conditions: Conditions, metric: str) -> Answer | None:
    """Of the same model elsewhere, times what this place takes of what that one takes."""
    form = forms.of(metric, conditions)
    if form is None or not form.place:
        return None
    here = evidence.index(form).place(conditions)
    found = []
    for place, swap in _places(evidence, form, conditions):
        answer = direct(evidence, swap(conditions), metric)
        ratio = answer and _ratio(evidence, metric, conditions, swap, ("place", here, place))
        if answer and ratio:
            said = f"{_named(form, here)} takes of what {_named(form, place)} takes"
            found.append(_scaled(answer, ratio, Grade.OTHER_DEVICE, said))
    return _best(found)


def from_another_model(evidence: Evidence, conditions: Conditions, metric: str) -> Answer | None:
    """Of another model here, times what this model takes of what that one takes."""
    form = forms.of(metric, conditions)
    if form is None:
        return None
    found = []
    for shape, swap in _models(evidence, form, conditions):
        answer = direct(evidence, swap(conditions), metric)
        ratio = answer and _ratio(evidence, metric, conditions, swap, ("model", shape))
        if answer and ratio:
            said = f"{conditions.model_name or conditions.model_shape} takes of what {shape} takes"
            found.append(_scaled(answer, ratio, Grade.OTHER_MODEL, said))
    return _best(found)


def _places(evidence: Evidence, form: Form, conditions: Conditions) -> list[tuple[tuple[object, ...], Swap]]:
    """Other places with facts of this model under such conditions."""
    index = evidence.index(form)
    others = index.places(conditions.model_shape) - {index.place(conditions)}
    swaps = [(place, _to_place(form, place)) for place in sorted(others, key=str)]
    key = ("places", form.name, form.identity(conditions))
    return evidence.once(
        key, lambda: [(place, swap) for place, swap in swaps if _has(index, swap, conditions)]
    )


def _models(evidence: Evidence, form: Form, conditions: Conditions) -> list[tuple[str, Swap]]:
    """Other models with facts in this place under such conditions."""
    index = evidence.index(form)
    others = sorted(index.shapes() - {conditions.model_shape})
    swaps = [(shape, _to_model(evidence, shape)) for shape in others]
    key = ("models", form.name, form.identity(conditions))
    return evidence.once(
        key, lambda: [(shape, swap) for shape, swap in swaps if _has(index, swap, conditions)]
    )


def _has(index: Index, swap: Swap, conditions: Conditions) -> bool:
    return index.group(swap(conditions), ignoring=index.form.preferred) is not None


def _best(found: list[Answer]) -> Answer | None:
    """Of the answers that rest on most."""
    return max(found, key=lambda answer: answer.n, default=None)


def _scaled(answer: Answer, ratio: Ratio, grade: Grade, said: str) -> Answer:
    configurations = "1 configuration" if ratio.pairs == 1 else f"{ratio.pairs} configurations"
    note = f"Scaled by {ratio.value:.3g}, what {said}, measured on {configurations}. {answer.note}".strip()
    return replace(
        answer,
        value=answer.value * ratio.value,
        grade=worst((grade, answer.grade)),
        n=min(answer.n, ratio.pairs),
        observations=tuple(dict.fromkeys((*answer.observations, *ratio.observations))),
        note=note,
        error_ratio=None,
    )


def _ratio(
    evidence: Evidence, metric: str, conditions: Conditions, swap: Swap, about: tuple[object, ...]
) -> Ratio | None:
    """On configurations that are like this one, if there are any; else on all that ran on both."""
    form = forms.of(metric, conditions)
    if form is None:
        return None
    is_model = about[0] == "model"
    options = _options(form, conditions)
    key = ("ratio", form.name, about, conditions.model_shape if is_model else "", options)
    return evidence.once(key, lambda: _measure(evidence, metric, form, conditions, swap, is_model))


def _measure(
    evidence: Evidence, metric: str, form: Form, conditions: Conditions, swap: Swap, is_model: bool
) -> Ratio | None:
    index = evidence.index(form)
    here = index.place(conditions)
    groups = [
        group
        for group in (index.groups_of(conditions.model_shape) if is_model else index.groups())
        if is_model or index.place(group.facts[0].conditions) == here
    ]
    options = _options(form, conditions)
    like = [group for group in groups if _options(form, group.facts[0].conditions) == options]
    return _of_pairs(evidence, metric, like, swap) or _of_pairs(evidence, metric, groups, swap)


def _of_pairs(evidence: Evidence, metric: str, groups: list[Group], swap: Swap) -> Ratio | None:
    logs: list[float] = []
    observations: list[int] = []
    for own, other in _pairs(evidence, metric, groups, swap):
        logs.append(float(np.log(own.value / other.value)))
        observations += [*own.observations, *other.observations]
        if len(logs) == MAX_PAIRS:
            break
    if not logs:
        return None
    return Ratio(value=float(np.exp(np.mean(logs))), pairs=len(logs), observations=tuple(observations))


def _pairs(
    evidence: Evidence, metric: str, groups: list[Group], swap: Swap
) -> Iterator[tuple[Answer, Answer]]:
    """Measured here, and measured or interpolated there, under the same conditions but for what is swapped."""
    for group in groups:
        for conditions in _distinct(group):
            other = direct(evidence, swap(conditions), metric)
            own = direct(evidence, conditions, metric)
            if own and other and own.value > 0 and other.value > 0 and other.grade in _IS_A_MEASURE:
                yield own, other


def _distinct(group: Group) -> Iterator[Conditions]:
    """One for each configuration of the newest facts."""
    seen = set()
    for fact in group.fitted_facts:
        at = point(fact.conditions, group.form.features)
        key = tuple(np.round(np.log1p(np.nan_to_num(at)) / SAME_WITHIN).tolist())
        if key not in seen:
            seen.add(key)
            yield fact.conditions


def _options(form: Form, conditions: Conditions) -> tuple[object, ...]:
    return tuple(getattr(conditions, name) for name in form.same if name != "model_shape")


def _to_place(form: Form, place: tuple[object, ...]) -> Swap:
    fields = dict(zip(form.place, place, strict=True))
    return lambda conditions: replace(conditions, **fields)  # type: ignore[arg-type]


def _named(form: Form, place: tuple[object, ...]) -> str:
    """`NVIDIA A100 with 8 threads`"""
    device, *threads = place
    return f"{device} with {threads[0]} threads" if threads and threads[0] else str(device)


def _to_model(evidence: Evidence, model_shape: str) -> Swap:
    def swap(conditions: Conditions) -> Conditions:
        return replace(
            conditions,
            model_shape=model_shape,
            model_name="",
            parameter_count=None,
            trainable_parameters=_trainable(evidence, model_shape, conditions),
        )

    return swap


def _trainable(evidence: Evidence, model_shape: str, conditions: Conditions) -> int | None:
    """Of an adapter of this rank on the other model: they grow with the rank."""
    sizes = evidence.once("adapter sizes", lambda: _adapter_sizes(evidence))
    of_rank_one = sizes.get((model_shape, conditions.lora_modules, conditions.lora_rank is None))
    if of_rank_one is None:
        return None
    return round(of_rank_one * (conditions.lora_rank or 1))


def _adapter_sizes(evidence: Evidence) -> dict[tuple[str, str, bool], float]:
    """Trainable parameters for each unit of rank; of full fine-tunes, all parameters."""
    sizes: dict[tuple[str, str, bool], float] = {}
    for conditions in (fact.conditions for fact in evidence.facts):
        count = conditions.trainable_parameters or conditions.parameter_count
        if count:
            is_full = conditions.lora_rank is None
            key = (conditions.model_shape, conditions.lora_modules, is_full)
            sizes.setdefault(key, count / (conditions.lora_rank or 1))
    return sizes
