"""What estimates are made of."""

from dataclasses import dataclass
from datetime import datetime

from experiments.conditions import Conditions

LogError = tuple[str, str, float]  # figure ("seconds", a metric), grade, log(actual / predicted)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One complete observation. All facts of a run have its key: errors and degrees of freedom count runs."""

    id: int
    metric: str
    value: float
    run_key: str
    conditions: Conditions
    observed_at: datetime
    is_bound: bool = False  # the true value is at least this
    is_told: bool = False  # by a person, not measured
