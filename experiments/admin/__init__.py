"""The admin of what we want to know and what we learned."""

from experiments.admin import accounts, calibrations, datasets, experiments, models, observations

__all__ = ["accounts", "calibrations", "datasets", "experiments", "models", "observations"]
