"""Cells and runs of an experiment, laid out from its document and from what was found on disk."""

from experiments.layout.cells import adapters_named, lay_out
from experiments.layout.evaluations import engine_key
from experiments.layout.material import ONLY, Adapter, Chosen, Data, Material, PlannedCell, PlannedRun

__all__ = [
    "ONLY",
    "Adapter",
    "Chosen",
    "Data",
    "Material",
    "PlannedCell",
    "PlannedRun",
    "adapters_named",
    "engine_key",
    "lay_out",
]
