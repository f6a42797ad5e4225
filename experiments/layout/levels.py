"""The levels of each cell: factors crossed, exclusions taken out, explicit cells added, all of it for each seed."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.documents import (
    ADAPTER,
    ExperimentDocument,
    InvalidDocument,
    Problem,
    has_crossed_cells,
    same,
)

Levels = dict[str, Any]


def levels_of_cells(document: ExperimentDocument) -> list[Levels]:
    """In the order of the factors, explicit cells last. Raises InvalidDocument."""
    cells = [*_crossed(document), *(dict(cell) for cell in document.cells)]
    return [seeded for cell in cells for seeded in _with_seeds(document, cell)]


def _crossed(document: ExperimentDocument) -> list[Levels]:
    if not has_crossed_cells(document):
        return []
    names = list(document.factors)
    every = [
        dict(zip(names, levels, strict=True)) for levels in itertools.product(*document.factors.values())
    ]
    left = [cell for cell in every if not any(_matches(cell, out) for out in document.exclude)]
    if not left and not document.cells:
        raise InvalidDocument([Problem("exclude", "It leaves no cell.", "Exclude fewer.")])
    return left


def _matches(cell: Mapping[str, Any], excluded: Mapping[str, Any]) -> bool:
    return all(same(cell[factor], level) for factor, level in excluded.items())


def _with_seeds(document: ExperimentDocument, cell: Levels) -> Iterator[Levels]:
    if not document.seeds or ADAPTER in cell:
        yield cell
        return
    for seed in document.seeds:
        yield {**cell, "seed": seed}
