"""How a prediction is compared with what was expected: 1.0 is right, 0.0 is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Scorer = Callable[[str, str], float]


def exact_match(prediction: str, expected: str) -> float:
    return float(prediction.strip() == expected.strip())


SCORERS: dict[str, Scorer] = {"exact_match": exact_match}


def unknown(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in SCORERS]


def score(names: Sequence[str], prediction: str, expected: str) -> dict[str, float]:
    return {name: SCORERS[name](prediction, expected) for name in names}


def mean(names: Sequence[str], scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in scores) / len(scores) for name in names}
