from experiments.models.catalog import BaseModel, Dataset, TokenLengths
from experiments.models.evidence import Calibration, Estimate, Observation
from experiments.models.plans import Cell, Experiment, PlanEntry, Proposal
from experiments.models.runs import Run, RunEvent

__all__ = [
    "BaseModel",
    "Calibration",
    "Cell",
    "Dataset",
    "Estimate",
    "Experiment",
    "Observation",
    "PlanEntry",
    "Proposal",
    "Run",
    "RunEvent",
    "TokenLengths",
]
