"""Whether a row can be trained on: what torchtune 0.6.1 and its reader would stumble over after the run was started."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from experiments.verification.errors import VerificationError
from experiments.verification.rows import Columns

ROLES = ("system", "user", "assistant")
Exchange = tuple[str, str]  # what is asked, and the answer to it

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


def exchange(row: Any, columns: Columns, place: str) -> Exchange:
    """The texts of a row. Raises VerificationError for a row that cannot be trained on."""
    asked = _of_chat(row, columns.messages, place) if columns.messages else _of_columns(row, columns, place)
    if not all(_is_unicode(text) for text in asked):
        raise VerificationError(
            f"{place} has half a surrogate pair, which is no character.", "Correct the row."
        )
    return asked


def is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None


def _of_columns(row: Any, columns: Columns, place: str) -> Exchange:
    return _text(row, columns.input, place), _text(row, columns.output, place)


def _text(row: Any, column: str, place: str) -> str:
    value = row.get(column) if isinstance(row, dict) else None
    if isinstance(value, str):
        return value
    raise VerificationError(f"{place} has no text in column {column!r}.", _remedy(row, column))


def _remedy(row: Any, column: str) -> str:
    if not isinstance(row, dict):
        return "A row is a mapping of columns to texts."
    if column in row:
        return f"Write the value {row[column]!r:.40} as a text."
    close = difflib.get_close_matches(column, [str(name) for name in row], n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return f"{meant}Correct the row, or name the column with input_column, output_column or messages_column."


def _of_chat(row: Any, column: str, place: str) -> Exchange:
    messages = row.get(column) if isinstance(row, dict) else None
    if not isinstance(messages, list):
        remedy = _remedy(row, column) if not isinstance(messages, str) else "Use JSON, JSONL or Parquet."
        raise VerificationError(f"{place} has no list of messages in column {column!r}.", remedy)
    turns = [_turn(message, f"{place}, message {number}") for number, message in enumerate(messages)]
    _check_order([role for role, _ in turns], place)
    asked = "\0".join(f"{role}\0{text}" for role, text in turns[:-1])
    return asked if all(text.strip() for _, text in turns[:-1]) else "", turns[-1][1]


def _turn(message: Any, place: str) -> tuple[str, str]:
    role, content = (
        (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
    )
    if role not in ROLES:
        message = f"{place} has the role {role!r:.40}."
        raise VerificationError(message, f"A message is {{role, content}}, and its role {', '.join(ROLES)}.")
    if isinstance(content, list) and all(_is_text_part(part) for part in content):
        return role, "\0".join(part["text"] for part in content)
    if isinstance(content, str):
        return role, content
    message = f"{place} has a content that is no text."
    raise VerificationError(message, 'Write it as a text, or as a list of {"type": "text", "text": ...}.')


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _check_order(roles: list[str], place: str) -> None:
    """What torchtune's validate_messages asks for; a chat without an answer at its end would train on nothing there."""
    turns = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * (len(turns) // 2)
    if not turns or turns != expected:
        message = f"{place} has the messages {', '.join(roles)[:80] or 'of nobody'}."
        raise VerificationError(
            message, "Let user and assistant take turns, after at most one system message."
        )


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
