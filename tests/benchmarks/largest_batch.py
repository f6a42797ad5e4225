"""The largest batch that fits: as it is advised while evidence grows, and as it is found by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Advise = Callable[[], int | None]  # from the evidence so far
Fits = Callable[[int], bool]  # by a real run, which is evidence from then on


@dataclass(frozen=True)
class Advised:
    batch_size: int | None  # None: the evidence did not bear an advice
    ran_out: bool  # whether a run with an advised batch ran out of memory


def follow(advise: Advise, fits: Fits) -> Advised:
    """Run what is advised, and ask again, until the same is advised twice: what a lab does that follows the proposals."""
    ran_out, last = False, None
    while (advised := advise()) is not None and advised != last:
        ran_out |= not fits(advised)
        last = advised
    return Advised(last, ran_out)


def true_maximum(fits: Fits, *, start: int, ceiling: int) -> int:
    """By steps of a tenth and then by bisection; 0 if not even one row fits."""
    low, high = (start, ceiling + 1) if start and fits(start) else (0, start or ceiling + 1)
    while high == ceiling + 1 and low < ceiling:
        asked = min(ceiling, max(low + 1, low * 11 // 10))
        if fits(asked):
            low = asked
        else:
            high = asked
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
