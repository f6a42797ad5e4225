"""The nearest evidence there is: one figure for one metric under these conditions."""

from dataclasses import replace

from experiments.conditions import Conditions, Metric
from experiments.estimation import bounds, intervals
from experiments.estimation.direct import direct
from experiments.estimation.evidence import Evidence
from experiments.estimation.groups import Answer
from experiments.estimation.ratios import from_another_device, from_another_model
from experiments.estimation.reasons import why_not
from experiments.estimation.told import from_a_person
from experiments.figures import Figure, no_evidence

_NEAREST_FIRST = (direct, from_another_device, from_another_model, from_a_person)


def figure(evidence: Evidence, conditions: Conditions, metric: str) -> Figure:
    """Of what is nearest; "no evidence" says what is known all the same."""
    answer = answer_to(evidence, conditions, metric)
    if answer is None:
        return _nothing(evidence, conditions, metric)
    return with_interval(
        evidence,
        metric,
        Figure(
            value=answer.value,
            grade=answer.grade,
            n=answer.n,
            observations=answer.observations,
            note=answer.note,
        ),
        at_least=_weights(evidence, conditions, metric),
    )


def answer_to(evidence: Evidence, conditions: Conditions, metric: str) -> Answer | None:
    """Of the nearest source that has one, above all that ran out of memory."""
    answer = evidence.once(("answer", metric, conditions), lambda: _first(evidence, conditions, metric))
    return answer and bounds.raised(answer, bounds.exceeded(evidence, conditions, metric))


def with_interval(evidence: Evidence, name: str, of: Figure, *, at_least: float = 0.0) -> Figure:
    """`at_least`: what is known to be needed in any case."""
    if of.value is None:
        return of
    value = max(of.value, at_least)
    found = intervals.interval(value, evidence.errors_of(name, of.grade))
    if found is None:
        return replace(of, value=value)
    return replace(of, value=value, low=max(found[0], at_least), high=found[1])


def _first(evidence: Evidence, conditions: Conditions, metric: str) -> Answer | None:
    for source in _NEAREST_FIRST:
        answer = source(evidence, conditions, metric)
        if answer is not None:
            return answer
    return None


def _nothing(evidence: Evidence, conditions: Conditions, metric: str) -> Figure:
    """What ran out of memory, and what the weights take, bound it from below."""
    refuted = bounds.exceeded(evidence, conditions, metric)
    weights = _weights(evidence, conditions, metric)
    low = max((bound.value for bound in refuted), default=0.0)
    notes = [bounds.sentence(max(refuted, key=lambda bound: bound.value))] if refuted else []
    if weights > low:
        notes.append(f"The weights alone take {weights:,.0f} MiB.")
    return replace(
        no_evidence(" ".join([*why_not(evidence, conditions, metric), *notes])),
        low=max(low, weights) or None,
        observations=tuple(bound.id for bound in refuted),
    )


def _weights(evidence: Evidence, conditions: Conditions, metric: str) -> float:
    """What was there after the model's initialisation: below any peak, and never a peak itself."""
    if metric != Metric.PEAK_DEVICE_MEMORY_MIB:
        return 0.0
    answer = direct(evidence, conditions, Metric.MEMORY_AFTER_INIT_MIB)
    return answer.value if answer else 0.0
