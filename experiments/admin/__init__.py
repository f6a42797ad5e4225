"""The admin of what we want to know and what we learned."""

from experiments.admin import accounts, datasets, evidence, experiments, models

__all__ = ["accounts", "datasets", "evidence", "experiments", "models"]
