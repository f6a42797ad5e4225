from collections.abc import Sequence
from pathlib import Path

from experiments.documents import Problem
from experiments.verification import available, resembling

MOST_NAMED = 10


class NotFound(Exception):
    """A dataset or model that a document names cannot be used."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def what_is_there(name: str, roots: Sequence[Path]) -> str:
    """A sentence that names what resembles it under the roots, or what there is at all."""
    if close := resembling(name, roots):
        first, *others = [repr(known) for known in close]
        return f"Did you mean {first}?" + (f" There is also {', '.join(others)}." if others else "")
    there = available(roots)
    if not there:
        return "Nothing is there yet."
    more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
    return f"There is: {', '.join(there[:MOST_NAMED])}{more}."
