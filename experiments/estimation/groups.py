"""Facts that may speak for each other: what was measured at a point, and what is fitted through all of them."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

import numpy as np

from experiments.estimation.facts import Fact
from experiments.estimation.features import SAME_WITHIN, Array, Columns, point
from experiments.estimation.fitting import NOT_VARIED, Fit, design, fit
from experiments.estimation.forms import Form, Term
from experiments.figures import Grade

MAX_RUNS = 100  # newest first; older ones would change a fit by less than they cost
MAX_REPEATS = 5  # runs at the same point
MAX_FACTS_OF_A_RUN = 20
_LEAST = 1e-3  # of what a clock or a log shows; what it shows as 0 has a logarithm, too


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A value on its way to be a figure."""

    value: float
    grade: Grade
    n: int
    observations: tuple[int, ...]
    note: str = ""
    error_ratio: float | None = None  # of the fit, in runs that were left out
    reach: Mapping[str, float]  # the largest value of each feature that was observed


class Group:
    """Facts of one metric whose conditions are the same, but for the features."""

    def __init__(self, *, form: Form, facts: Sequence[Fact], unknown: Iterable[str] = ()) -> None:
        """`facts`: the newest first. `unknown`: conditions that some of them, or the question, lack."""
        self.form = form
        self.facts = facts
        self.unknown = tuple(unknown)

    @cached_property
    def points(self) -> Array:
        return np.array([point(fact.conditions, self.form.features) for fact in self.facts])

    @cached_property
    def values(self) -> Array:
        return np.array([fact.value for fact in self.facts])

    @cached_property
    def chosen(self) -> list[int]:
        """The places of the facts that a fit is made of: of the newest runs, what has all that the fit needs."""
        needed = np.array(self.form.needed, dtype=bool)
        known = ~np.isnan(self.points[:, needed]).any(axis=1) & (self.values > 0)
        return self._newest(np.flatnonzero(known).tolist())

    def measured(self, at: Array) -> Answer | None:
        """The mean of the runs at this point."""
        needed = np.array(self.form.needed, dtype=bool)
        if np.isnan(at[needed]).any():
            return None
        lacks = np.isnan(self.points[:, needed]).any(axis=1)
        differs = (np.abs(self.points - at) > SAME_WITHIN * np.abs(at)).any(axis=1)
        found = self._newest(np.flatnonzero(~(differs | lacks)).tolist())
        return self._mean_of([self.facts[index] for index in found]) if found else None

    def fitted(self, at: Array) -> Answer | None:
        """What the fit says of this point, if it bears that far."""
        fitted = self.fit
        if fitted is None or not self._bears(fitted, at):
            return None
        columns = self._columns_at(at)
        value = float(fitted.predict(columns)[0])
        return Answer(
            value=value,
            grade=Grade.INTERPOLATED if self._is_within(at) else Grade.EXTRAPOLATED,
            n=self.runs,
            observations=self._observations,
            note=self._note,
            error_ratio=fitted.error_ratio,
            reach=self.highest,
        )

    @cached_property
    def fitted_facts(self) -> list[Fact]:
        return [self.facts[index] for index in self.chosen]

    @cached_property
    def columns(self) -> Columns:
        return _columns(self.form, self.points[self.chosen])

    @cached_property
    def fit(self) -> Fit | None:
        facts = self.fitted_facts
        if not facts:
            return None
        numbers = {key: number for number, key in enumerate(dict.fromkeys(fact.run_key for fact in facts))}
        return fit(
            terms=self.form.terms,
            columns=self.columns,
            values=np.array([fact.value for fact in facts]),
            run_of=np.array([numbers[fact.run_key] for fact in facts]),
            computed=self._computed(),
        )

    def _computed(self) -> dict[str, float]:
        """The coefficients that follow by arithmetic from the conditions that all the facts share."""
        computed = {
            term.name: term.computed(self.facts[0].conditions) for term in self.form.terms if term.computed
        }
        return {name: value for name, value in computed.items() if value is not None}

    @cached_property
    def runs(self) -> int:
        return len({fact.run_key for fact in self.fitted_facts})

    @cached_property
    def lowest(self) -> dict[str, float]:
        return {name: float(np.nanmin(values)) for name, values in self._known()}

    @cached_property
    def highest(self) -> dict[str, float]:
        return {name: float(np.nanmax(values)) for name, values in self._known()}

    def _newest(self, places: Sequence[int]) -> list[int]:
        """Of the newest runs, a few at each point; of a run with many facts, some of each size."""
        kept: dict[str, list[int]] = {}
        repeats: Counter[bytes] = Counter()
        for place in places:
            run = self.facts[place].run_key
            if run not in kept:
                at = self.points[place].tobytes()
                repeats[at] += 1
                if len(kept) >= MAX_RUNS or repeats[at] > MAX_REPEATS:
                    continue
                kept[run] = []
            kept[run].append(place)
        return [place for of_run in kept.values() for place in self._some(of_run)]

    def _some(self, places: list[int]) -> list[int]:
        if len(places) <= MAX_FACTS_OF_A_RUN:
            return places
        ordered = sorted(places, key=lambda place: self.points[place].tolist())
        chosen = np.linspace(0, len(ordered) - 1, MAX_FACTS_OF_A_RUN).round().astype(int)
        return [ordered[index] for index in chosen]

    def _known(self) -> list[tuple[str, Array]]:
        return [
            (name, values)
            for name, values in self.columns.items()
            if name in self.form.features and not np.isnan(values).all()
        ]

    def _columns_at(self, at: Array) -> Columns:
        return _columns(self.form, at.reshape(1, -1))

    def _is_within(self, at: Array) -> bool:
        """Whether every feature lies within what was observed of it."""
        asked = dict(zip(self.form.features, at, strict=True))
        return all(
            self.lowest[name] * (1 - SAME_WITHIN) <= asked[name] <= self.highest[name] * (1 + SAME_WITHIN)
            for name in self.lowest
        )

    def _bears(self, fitted: Fit, at: Array) -> bool:
        """Whether what the fit lacks is, at this point, what it was in the runs."""
        columns = self._columns_at(at)
        needs = {name for term in fitted.terms for name in term.needs}
        if not fitted.terms or any(np.isnan(columns[name]).any() for name in needs):
            return False
        lacking = [term for term in self.form.terms if term.is_base and term not in fitted.terms]
        return all(self._is_near(fitted, term, columns) for term in lacking)

    def _is_near(self, fitted: Fit, term: Term, at: Columns) -> bool:
        """Of a base term that the runs cannot tell from the others: whether it goes with them here, too."""
        if fitted.left_out[term.name] != NOT_VARIED:
            return True
        told = fitted.told()
        follows, *_ = np.linalg.lstsq(design(told, self.columns), term.column(self.columns), rcond=None)
        expected = design(told, at) @ follows
        asked = term.column(at)
        low, high = term.near
        return bool(np.all((low * expected <= asked) & (asked <= high * expected)))

    def _mean_of(self, facts: Sequence[Fact]) -> Answer:
        logs: defaultdict[str, list[float]] = defaultdict(list)
        for fact in facts:
            logs[fact.run_key].append(math.log(max(fact.value, _LEAST)))
        of_runs = [mean(values) for values in logs.values()]
        return Answer(
            value=math.exp(mean(of_runs)),
            grade=Grade.MEASURED,
            n=len(of_runs),
            observations=tuple(fact.id for fact in facts),
            note=self._note_of_unknown(),
            error_ratio=stdev(of_runs) if len(of_runs) > 1 else None,
            reach=self.highest,
        )

    @cached_property
    def _observations(self) -> tuple[int, ...]:
        return tuple(fact.id for fact in self.fitted_facts)

    @cached_property
    def _note(self) -> str:
        fitted = self.fit
        if fitted is None:
            return self._note_of_unknown()
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        said = f"Fitted to {runs}: {', '.join(term.name for term in fitted.terms)}."
        left_out = "; ".join(f"{name}, {reason}" for name, reason in fitted.left_out.items())
        return " ".join(
            part
            for part in (said, f"Left out: {left_out}." if left_out else "", self._note_of_unknown())
            if part
        )

    def _note_of_unknown(self) -> str:
        return f"Not known of all, and taken as equal: {', '.join(self.unknown)}." if self.unknown else ""


def _columns(form: Form, table: Array) -> Columns:
    """By feature. The first column is there to count rows, so that a form without features has some."""
    ones = {"": np.ones(len(table))}
    return ones | {name: table[:, index] for index, name in enumerate(form.features)}
