"""From evidence to estimates: pure, and every figure says which observations it comes from."""

from experiments.estimation.advice import Advice, Fitting, advise_batch_size, largest_that_fits
from experiments.estimation.choosing import figure
from experiments.estimation.evaluations import EvaluationEstimate, evaluation
from experiments.estimation.evidence import Evidence
from experiments.estimation.facts import Fact, LogError
from experiments.estimation.finetunes import SECONDS, FinetuneEstimate, finetune
from experiments.estimation.probing import needs_probe
from experiments.estimation.reasons import why_not

__all__ = [
    "SECONDS",
    "Advice",
    "EvaluationEstimate",
    "Evidence",
    "Fact",
    "FinetuneEstimate",
    "Fitting",
    "LogError",
    "advise_batch_size",
    "evaluation",
    "figure",
    "finetune",
    "largest_that_fits",
    "needs_probe",
    "why_not",
]
