"""Whether a short run should measure what nothing tells."""

from experiments.conditions import Metric
from experiments.estimation.finetunes import FinetuneEstimate
from experiments.figures import Grade

_PROBED = (Metric.SECONDS_PER_STEP, Metric.PEAK_DEVICE_MEMORY_MIB)


def needs_probe(estimate: FinetuneEstimate) -> tuple[Metric, ...]:
    """Of time and memory, what has no evidence."""
    figures = (estimate.seconds_per_step, estimate.peak_device_memory_mib)
    return tuple(metric for metric, of in zip(_PROBED, figures, strict=True) if of.grade == Grade.NONE)
