"""How far an estimate may be off, from how far earlier estimates of its kind were."""

import math
from collections.abc import Sequence

import numpy as np
import scipy

CONFIDENCE = 0.9
ENOUGH = 8  # finished runs with such an estimate


def interval(value: float, errors: Sequence[float]) -> tuple[float, float] | None:
    """Student's prediction interval of the actual value; `errors` are logarithms of actual over predicted.

    It is centred with the mean error, and then widened to hold the value itself. None until there are enough errors.
    """
    if len(errors) < ENOUGH:
        return None
    count = len(errors)
    spread = float(np.std(errors, ddof=1)) * math.sqrt(1 + 1 / count)
    reach = float(scipy.special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * spread
    centre = float(np.mean(errors))
    return min(value, value * math.exp(centre - reach)), max(value, value * math.exp(centre + reach))
