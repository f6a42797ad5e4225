"""Least squares with coefficients that are never negative, and only the terms that the data speak for.

Errors are relative: a second matters to a step of two seconds as half a second to a step of one. Each run weighs
the same, however many facts it gave. A coefficient that follows by arithmetic is held near that value as far as the runs
do not tell it better (ridge regression towards it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded when a fit first asks for one: that takes longer than most commands

from experiments.estimation.features import Array, Columns
from experiments.estimation.forms import Term

Runs = npt.NDArray[np.intp]
ENOUGH_VARIATION = 0.03  # of a column's length that the columns before it cannot make up
SPARE_RUNS = 2  # beyond the number of terms, before a further term is tried
IMPROVEMENT = 0.95  # by which a further term must lessen the error in the runs that were left out
TRUST = 0.5  # how far, relative to itself, a computed coefficient may be off
NOISE, LEAST_NOISE = 0.02, 1e-4  # relative error of runs, before they tell it
SINGULAR = 1e-8  # what is left of a run's own weight where it alone decides a coefficient
RIDGE = 1e-9  # far below ENOUGH_VARIATION squared
EXACT = 1e-6  # relative error
NOT_KNOWN, NOT_VARIED, NO_HELP = (
    "not known of every run",
    "does not vary enough beside the others",
    "does not better the prediction of runs that are left out",
)
TOO_FEW_RUNS, NO_WEIGHT, COMPUTED = "too few runs", "fitted as 0", "computed, since the runs do not tell it"


@dataclass(frozen=True, kw_only=True)
class Fit:
    terms: tuple[Term, ...]
    coefficients: Array
    left_out: dict[str, str]  # term: why the runs do not tell it
    errors: (
        Array  # (actual - predicted) / actual of each run, left out; infinite where the others cannot tell
    )

    @property
    def error_ratio(self) -> float | None:
        """Mean absolute error of runs that were left out one by one, as far as the others could predict them."""
        known = self.errors[np.isfinite(self.errors)]
        return float(np.mean(np.abs(known))) if known.size else None

    def told(self) -> list[Term]:
        """The terms that the runs tell."""
        return [term for term in self.terms if term.name not in self.left_out]

    def predict(self, columns: Columns) -> Array:
        return design(self.terms, columns) @ self.coefficients

    def named_coefficients(self) -> dict[str, float]:
        return {term.name: float(value) for term, value in zip(self.terms, self.coefficients, strict=True)}


@dataclass(frozen=True, kw_only=True)
class _Data:
    columns: Mapping[str, Array]  # of each term that is known of every run, weighted
    products: Mapping[tuple[str, str], float]  # of these columns at unit length: 1 where two say the same
    target: Array
    run_of: Runs
    computed: Mapping[str, float]  # term: its coefficient by arithmetic
    noise: float = NOISE
    left_out: dict[str, str] = field(default_factory=dict)  # filled as terms are tried

    @property
    def runs(self) -> int:
        return int(self.run_of.max()) + 1

    def weighted(self, terms: Sequence[Term]) -> Array:
        return np.column_stack([self.columns[term.name] for term in terms])

    def is_known(self, term: Term) -> bool:
        return term.name in self.columns


def fit(
    *, terms: Sequence[Term], columns: Columns, values: Array, run_of: Runs, computed: Mapping[str, float]
) -> Fit:
    """`run_of` numbers the run of each value from 0. At least one value is needed, and all are above 0."""
    solved, data = _base(_weighted(terms, columns, values, run_of, computed), terms)
    while further := [term for term in terms if not term.is_base and term not in solved.terms]:
        better = _with_one_more(data, solved, further)
        if better is None:
            break
        solved = better
    return _finished(data, solved, terms)


def _weighted(
    terms: Sequence[Term], columns: Columns, values: Array, run_of: Runs, computed: Mapping[str, float]
) -> _Data:
    weights = 1 / (values * np.sqrt(np.bincount(run_of)[run_of]))
    weighted = {term.name: term.column(columns) * weights for term in terms}
    known = {name: column for name, column in weighted.items() if not np.isnan(column).any()}
    matrix = _at_unit_length(np.column_stack(list(known.values())))
    products = matrix.T @ matrix
    return _Data(
        columns=known,
        products={
            (one, other): float(products[i, j])
            for i, one in enumerate(known)
            for j, other in enumerate(known)
        },
        target=values * weights,
        run_of=run_of,
        computed={name: value for name, value in computed.items() if name in known},
    )


def _at_unit_length(matrix: Array) -> Array:
    lengths = np.linalg.norm(matrix, axis=0)
    scaled: Array = matrix / np.where(lengths > 0, lengths, 1.0)
    return scaled


def design(terms: Sequence[Term], columns: Columns) -> Array:
    return np.column_stack([term.column(columns) for term in terms])


def _base(data: _Data, terms: Sequence[Term]) -> tuple[Fit, _Data]:
    """The base terms that the runs tell and those that are computed; and the data with the runs' own noise."""
    chosen: list[Term] = []
    for term in terms:
        reason = _obstacle(data, chosen, term)
        if term.name in data.computed or (term.is_base and not reason):
            chosen.append(term)
        if reason:
            data.left_out[term.name] = COMPUTED if term in chosen else reason
    solved = _solve(data, chosen)
    errors = solved.errors[np.isfinite(solved.errors)]
    if errors.size == 0 or not data.computed:
        return solved, data
    data = replace(data, noise=max(LEAST_NOISE, float(np.sqrt(np.mean(errors**2)))))
    return _solve(data, chosen), data


def _with_one_more(data: _Data, solved: Fit, further: Sequence[Term]) -> Fit | None:
    """With the term that betters most the prediction of runs that are left out, if one does."""
    best = None
    among = np.isfinite(solved.errors)
    least = _loss(solved, among)
    for term in further:
        data.left_out[term.name] = _obstacle(data, solved.terms, term) or _scarcity(data, solved) or NO_HELP
        if data.left_out[term.name] != NO_HELP:
            continue
        tried = _solve(data, [*solved.terms, term])
        if _loss(tried, among) < IMPROVEMENT * least:
            best, least = tried, _loss(tried, among)
    return best


def _obstacle(data: _Data, chosen: Sequence[Term], term: Term) -> str:
    """Why this term cannot be told from the data; empty if it can."""
    if not data.is_known(term):
        return NOT_KNOWN
    return "" if _varies(data, chosen, term) else NOT_VARIED


def _scarcity(data: _Data, solved: Fit) -> str:
    return TOO_FEW_RUNS if data.runs < len(solved.terms) + 1 + SPARE_RUNS else ""


def _varies(data: _Data, chosen: Sequence[Term], term: Term) -> bool:
    """Whether enough of its column is left when what follows from the chosen ones is taken away."""
    alone = data.products[term.name, term.name]
    if not chosen or alone == 0.0:
        return alone > 0.0
    among = np.array([[data.products[one.name, other.name] for other in chosen] for one in chosen])
    towards = np.array([data.products[one.name, term.name] for one in chosen])
    among += RIDGE * np.eye(len(chosen))  # two of them may say the same, one of which is computed
    follows = towards @ np.linalg.solve(among, towards)
    return bool(alone - follows > ENOUGH_VARIATION**2)


def _solve(data: _Data, terms: Sequence[Term]) -> Fit:
    matrix = np.vstack([data.weighted(terms), _arithmetic(data, terms)])
    said = np.full(len(matrix) - len(data.target), data.noise / TRUST)
    target = np.append(data.target, said)
    scale = np.linalg.norm(matrix, axis=0)
    solution, _ = scipy.optimize.nnls(matrix / scale, target)
    errors = _left_out_errors(data, (matrix / scale)[:, solution > 0], target)
    return Fit(terms=tuple(terms), coefficients=solution / scale, left_out={}, errors=errors)


def _arithmetic(data: _Data, terms: Sequence[Term]) -> Array:
    """A row for each computed coefficient: that it is what was computed, as if a run had said so."""
    rows = [
        [data.noise / (TRUST * data.computed[term.name]) if other is term else 0.0 for other in terms]
        for term in terms
        if term.name in data.computed
    ]
    return np.array(rows).reshape(-1, len(terms))


def _left_out_errors(data: _Data, matrix: Array, target: Array) -> Array:
    """Of each run, predicted from the others. By the hat matrix, with the terms that have any weight."""
    basis, _ = np.linalg.qr(matrix)
    residuals = target - basis @ (basis.T @ target)
    if data.runs == len(data.target):
        basis, residuals = basis[: data.runs], residuals[: data.runs]
        own = 1 - np.sum(basis**2, axis=1)
        return np.where(own > SINGULAR, residuals / np.maximum(own, SINGULAR), np.inf)
    by_run = (np.flatnonzero(data.run_of == run) for run in range(data.runs))
    return np.array([_error_of_run(basis[rows], residuals[rows]) for rows in by_run])


def _error_of_run(basis: Array, residuals: Array) -> float:
    own = np.eye(len(basis)) - basis @ basis.T
    if np.linalg.eigvalsh(own)[0] < SINGULAR:
        return np.inf
    errors = np.linalg.solve(own, residuals)
    return float(np.linalg.norm(errors) * np.sign(np.sum(errors)))


def _loss(solved: Fit, among: npt.NDArray[np.bool_]) -> float:
    """Squared, since one large error hurts a plan more than many small ones; below EXACT, all are the same."""
    return max(float(np.mean(solved.errors[among] ** 2)), EXACT**2) if among.any() else EXACT**2


def _finished(data: _Data, solved: Fit, terms: Sequence[Term]) -> Fit:
    """Without the terms of no weight, and with the reason for each term that the runs do not tell."""
    kept = [index for index, value in enumerate(solved.coefficients) if value > 0]
    chosen = tuple(solved.terms[index] for index in kept)
    reasons = {
        term.name: _reason(data, solved, term)
        for term in terms
        if term not in chosen or data.left_out.get(term.name) == COMPUTED
    }
    return replace(solved, terms=chosen, coefficients=solved.coefficients[kept], left_out=reasons)


def _reason(data: _Data, solved: Fit, term: Term) -> str:
    if term in solved.terms and data.left_out.get(term.name) != COMPUTED:
        return NO_WEIGHT
    return data.left_out[term.name]
