"""What is odd about a dataset and does not keep it from being used: empty and repeated rows, splits that overlap."""

from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class Finding:
    kind: Literal["empty", "duplicate", "overlap", "changed"]
    sentence: str
    count: int = 0  # of rows
    split: str = ""
    first_row: int | None = None  # the first that shows it, counted from 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Tally:
    """What is kept of a split's rows: two numbers of 64 bits for each, so that millions fit in memory.

    They are Python's own hashes of the texts, good while this process lives. That two of ten million different texts
    share one has a chance of 1 in 300,000.
    """

    questions: "array[int]" = field(default_factory=lambda: array("q"))
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    empty_count: int = 0
    first_empty: int | None = None

    def add(self, asked: str, answer: str) -> None:
        if not asked.strip() or not answer.strip():
            self.empty_count += 1
            self.first_empty = len(self.rows) if self.first_empty is None else self.first_empty
        self.questions.append(hash(asked))
        self.rows.append(hash((asked, answer)))


def of_splits(tallies: Mapping[str, Tally]) -> list[Finding]:
    found = [finding for split, tally in tallies.items() for finding in _of_split(split, tally)]
    train = tallies.get(TRAIN)
    for split, tally in tallies.items():
        if train is not None and split != TRAIN:
            found += _overlap(split, tally, train)
    return found


def changed() -> Finding:
    sentence = "It has changed since it was last verified: results on it do not compare with earlier ones."
    return Finding(kind="changed", sentence=sentence)


def _of_split(split: str, tally: Tally) -> list[Finding]:
    found = []
    if tally.first_empty is not None:
        sentence = f"{_rows(tally.empty_count, split)} without a text; the first is row {tally.first_empty}."
        found.append(
            Finding(
                kind="empty",
                sentence=sentence,
                count=tally.empty_count,
                split=split,
                first_row=tally.first_empty,
            )
        )
    repeated = _repeated(_numbers(tally.rows))
    if len(repeated):
        first = int(repeated.min())
        sentence = f"{_rows(len(repeated), split)} a repetition of an earlier one; the first is row {first}."
        found.append(
            Finding(kind="duplicate", sentence=sentence, count=len(repeated), split=split, first_row=first)
        )
    return found


def _overlap(split: str, tally: Tally, train: Tally) -> list[Finding]:
    shared = np.flatnonzero(np.isin(_numbers(tally.questions), _numbers(train.questions)))
    if not len(shared):
        return []
    first = int(shared[0])
    sentence = (
        f"{_rows(len(shared), split)} in {TRAIN!r} with the same input, so that they were trained on; "
        f"the first is row {first}."
    )
    return [Finding(kind="overlap", sentence=sentence, count=len(shared), split=split, first_row=first)]


def _repeated(rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """All but the first of rows that are alike."""
    order = np.argsort(rows, kind="stable")
    is_like_the_one_before = np.flatnonzero(np.diff(rows[order]) == 0) + 1
    return np.take(order, is_like_the_one_before)


def _numbers(hashes: "array[int]") -> NDArray[np.int64]:
    return np.array(hashes, dtype=np.int64)


def _rows(count: int, split: str) -> str:
    return f"1 row of {split!r} is" if count == 1 else f"{count:,} rows of {split!r} are"
