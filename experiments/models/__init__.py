from experiments.models.catalog import BaseModel, Dataset
from experiments.models.evidence import Calibration, Observation
from experiments.models.plans import Cell, Experiment
from experiments.models.runs import Run, RunEvent

__all__ = ["BaseModel", "Calibration", "Cell", "Dataset", "Experiment", "Observation", "Run", "RunEvent"]
