"""What is wrong with a document: where, what, and what to do."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MAX_PROBLEMS = 100  # of one document: nobody reads more at once
_MAX_SHOWN = 100
_YAML_WORDS = {True: "true", False: "false", None: "null"}


@dataclass(frozen=True)
class Problem:
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} {self.remedy}".strip()


class InvalidDocument(Exception):
    """The document cannot be planned; nothing was stored."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy that names the nearest known word, or all of them."""
    names = list(known)
    if not names:
        return "There are none."
    close = difflib.get_close_matches(word[:_MAX_SHOWN], names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(names))}."


def refused(path: str, message: str, remedy: str) -> InvalidDocument:
    return InvalidDocument([Problem(path, message, remedy)])


def shown(value: Any) -> str:
    """A value as a person wrote it, cut where it is long."""
    text = _YAML_WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def joined(*parts: Any) -> str:
    """A dotted path; keys that nobody would recognise by more than their beginning are cut."""
    return ".".join(str(part)[:_MAX_SHOWN] for part in parts if part != "")
