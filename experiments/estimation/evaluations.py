"""What an evaluation takes: time = the engine's start + predictions * the time of one, and memory."""

from dataclasses import dataclass, replace

from experiments.conditions import Conditions, Metric
from experiments.estimation.choosing import figure, with_interval
from experiments.estimation.evidence import Evidence
from experiments.estimation.finetunes import SECONDS, total
from experiments.figures import Figure, no_evidence


@dataclass(frozen=True, kw_only=True)
class EvaluationEstimate:
    seconds: Figure  # as if it had an engine to itself
    peak_device_memory_mib: Figure
    peak_host_memory_mib: Figure


def evaluation(evidence: Evidence, conditions: Conditions) -> EvaluationEstimate:
    """`conditions.rows` counts the predictions."""
    parts = {
        "engine start": figure(evidence, conditions, Metric.ENGINE_STARTUP_SECONDS),
        "predictions": _predictions(evidence, conditions),
    }
    return EvaluationEstimate(
        seconds=with_interval(evidence, SECONDS, total(parts, essential="predictions")),
        peak_device_memory_mib=figure(evidence, conditions, Metric.PEAK_DEVICE_MEMORY_MIB),
        peak_host_memory_mib=figure(evidence, conditions, Metric.PEAK_HOST_MEMORY_MIB),
    )


def _predictions(evidence: Evidence, conditions: Conditions) -> Figure:
    one = figure(evidence, conditions, Metric.SECONDS_PER_PREDICTION)
    if one.value is None:
        return one
    if conditions.rows is None:
        return no_evidence("How many predictions there are is not known.")
    return replace(one, value=one.value * conditions.rows, low=None, high=None)
