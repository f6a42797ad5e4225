"""What the estimates are compared with: the ways in which a run is predicted by people and by simple planners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from experiments.conditions import Metric
from tests.benchmarks.recorded_finetunes import Recorded

Rival = Callable[[Recorded, Sequence[Recorded], Metric], list[float]]


def proportional(run: Recorded, others: Sequence[Recorded], metric: Metric) -> list[float]:
    """Seed 000: of one run of this model, in proportion to the batch size. One prediction for each run it may be.

    Memory is counted above what the imports take, which is kinder to the rule than it was meant.
    """
    constant = run.import_memory_mib if metric == Metric.PEAK_DEVICE_MEMORY_MIB else 0.0
    return [
        constant + (other.values[metric] - constant) * run.batch_size / other.batch_size
        for other in others
        if other.model == run.model
    ]


def last_two(run: Recorded, others: Sequence[Recorded], metric: Metric) -> list[float]:
    """The mean of the two runs of this model that were recorded last before it; of the last two, where it is among the first."""
    of_model = [other for other in others if other.model == run.model]
    before = [other for other in of_model if other.recorded_at < run.recorded_at]
    return [mean(other.values[metric] for other in (before if len(before) >= 2 else of_model)[-2:])]


def grand_mean(run: Recorded, others: Sequence[Recorded], metric: Metric) -> list[float]:
    """The mean of all runs, whatever they were."""
    return [mean(other.values[metric] for other in others)]


RIVALS: Mapping[str, Rival] = {
    "in proportion to the batch size, from one run": proportional,
    "the mean of the last two runs": last_two,
    "no model: the mean of all runs": grand_mean,
}
