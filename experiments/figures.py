"""An estimated figure: its value, how far to trust it, and the observations that it comes from."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Grade(StrEnum):
    """How near the evidence is to what is asked, the nearest first."""

    MEASURED = "measured"  # under the same conditions
    INTERPOLATED = "interpolated"  # fitted, and within what was observed
    EXTRAPOLATED = "extrapolated"  # fitted, and beyond what was observed
    OTHER_DEVICE = "another device"  # scaled by a measured ratio of the two devices
    OTHER_MODEL = "another model"  # scaled by a measured ratio of the two models
    TOLD = "told"  # by a person
    NONE = "none"


_ORDER = list(Grade)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`value` is None where there is no evidence; `low` and `high` are None until errors are known well enough."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    grade: Grade = Grade.NONE
    n: int = 0  # runs (not steps) that it rests on
    observations: tuple[int, ...] = ()
    note: str = ""  # what a reader must know: what is left out, what was scaled by what

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "grade": str(self.grade),
            "n": self.n,
            "observations": list(self.observations),
            "note": self.note,
        }


def no_evidence(note: str = "") -> Figure:
    return Figure(note=note)


def exact(value: float, note: str = "") -> Figure:
    """A figure that is computed, not estimated, such as a count of steps."""
    return Figure(value=value, low=value, high=value, grade=Grade.MEASURED, note=note)


def worst(grades: Iterable[Grade]) -> Grade:
    """The grade of what is made of several figures."""
    return max(grades, key=_ORDER.index, default=Grade.NONE)
