"""An estimated figure: its value, how far to trust it, and the observations that it comes from."""

from collections.abc import Callable, Iterable, Mapping
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


def error_ratio(estimated: float | None, actual: float | None) -> float | None:
    """Of an estimate over what it then was: above 0, too much was said. None where either is not known."""
    return None if estimated is None or not actual else estimated / actual - 1


def worst(grades: Iterable[Grade]) -> Grade:
    """The grade of what is made of several figures."""
    return max(grades, key=_ORDER.index, default=Grade.NONE)


def total(parts: Mapping[str, Figure], *, essential: str | None = None) -> Figure:
    """The sum of what is known of named parts; the note names the parts without evidence.

    Without the essential part it would be taken for more than it is, and is no evidence. The bounds are sums, too: errors of one machine's figures rarely cancel, so this is the careful choice.
    """
    if essential is not None and essential in parts and parts[essential].value is None:
        return no_evidence(_joined(parts, sum).note)
    return _joined(parts, sum)


def largest(parts: Mapping[str, Figure]) -> Figure:
    """What is needed at most at a time, of parts that follow each other."""
    return _joined(parts, max)


def _joined(parts: Mapping[str, Figure], how: Callable[[list[float]], float]) -> Figure:
    known = {name: part for name, part in parts.items() if part.value is not None}
    lacking = [f"{name}: no evidence" for name in parts if name not in known]
    notes = [part.note for part in known.values() if part.note]
    if not known:
        why = [part.note for part in parts.values() if part.note]
        return no_evidence("; ".join(dict.fromkeys([*lacking, *why])))
    bounded = all(part.low is not None and part.high is not None for part in known.values())
    return Figure(
        value=how([part.value for part in known.values() if part.value is not None]),
        low=how([part.low for part in known.values() if part.low is not None]) if bounded else None,
        high=how([part.high for part in known.values() if part.high is not None]) if bounded else None,
        grade=worst(part.grade for part in known.values()),
        n=min((part.n for part in known.values() if part.n), default=0),  # what is computed rests on no run
        observations=tuple(sorted({pk for part in known.values() for pk in part.observations})),
        note="; ".join(dict.fromkeys([*lacking, *notes])),
    )
