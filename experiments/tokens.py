"""How many tokens torchtune 0.6.1 makes of a row with its Llama 3 tokenizer: the same counts, without torchtune.

`original/tokenizer.model` is a tiktoken file: on each line a token in base64 and its rank.
"""

import base64
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from numpy.typing import NDArray

Message = tuple[str, tuple[str, ...]]  # a role and its texts

# Llama 3's (and GPT-4's) way of cutting text into pieces before bytes are merged.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ENCODED_AT_ONCE = 400_000  # characters; torchtune cuts a text there
LONGEST_RUN = 25_000  # of characters that are all space, or all not; torchtune cuts it there
MAX_TOKENIZER_BYTES = 64 * 1024**2
_RUN = re.compile(r"\s+|\S+")
_KEPT_TEXTS = 100_000


class BrokenTokenizer(ValueError):
    """A tokenizer file that cannot be read."""


def lengths(
    *,
    tokenizer_file: Path,
    rows: Iterable[Mapping[str, Any]],
    input_column: str,
    output_column: str,
    messages_column: str | None = None,
    system_prompt: str | None = None,
) -> NDArray[np.uint32]:
    """The tokens of each row, not truncated; those that torchtune trains on are min(length, max_seq_len).

    (It stops early and cuts, but never below max_seq_len what is longer.) A row is an instruction, or a chat of
    messages, where a system prompt takes the place of the row's own. Raises BrokenTokenizer.
    """
    counter = _Counter(encoding(tokenizer_file))
    counted = array("I")
    for row in rows:
        if messages_column is None:
            messages = _instruction(row, input_column, output_column, system_prompt)
        else:
            messages = _chat(row[messages_column], system_prompt)
        counted.append(counter.of_messages(messages))
    return np.frombuffer(counted, dtype=np.uint32) if counted else np.empty(0, dtype=np.uint32)


def encoding(tokenizer_file: Path) -> tiktoken.Encoding:
    """The tokenizer in a tiktoken file, which is read once as long as it stays the same. Raises BrokenTokenizer."""
    stat = tokenizer_file.stat()
    if stat.st_size > MAX_TOKENIZER_BYTES:
        raise BrokenTokenizer(f"{tokenizer_file} is no tokenizer: it has {stat.st_size} bytes.")
    return _encoding(tokenizer_file, stat.st_size, stat.st_mtime_ns)


class _Counter:
    """Counts of texts by one tokenizer. Many rows share theirs: a prompt, a role, an answer."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding
        self._known: dict[str, int] = {}

    def of_messages(self, messages: Iterable[Message]) -> int:
        """Begin and end of the text, and each message: begin and end of its header, role, blank line, texts, end."""
        blank_line = self._of("\n\n")
        return 2 + sum(
            3 + self._of(role.strip()) + blank_line + sum(self._of(text.strip()) for text in texts)
            for role, texts in messages
        )

    def _of(self, text: str) -> int:
        if text not in self._known:
            if len(self._known) >= _KEPT_TEXTS:
                self._known.clear()
            self._known[text] = sum(len(self._encoding.encode_ordinary(piece)) for piece in _pieces(text))
        return self._known[text]


@lru_cache(maxsize=8)
def _encoding(tokenizer_file: Path, size_bytes: int, mtime_ns: int) -> tiktoken.Encoding:
    try:
        return tiktoken.Encoding(
            name="llama3", pat_str=SPLIT_PATTERN, mergeable_ranks=_ranks(tokenizer_file), special_tokens={}
        )
    except (ValueError, OSError) as error:
        raise BrokenTokenizer(f"{tokenizer_file} is no tiktoken file: {error}.") from error


def _ranks(tokenizer_file: Path) -> dict[bytes, int]:
    lines = tokenizer_file.read_bytes().splitlines()
    ranks = {
        base64.b64decode(token, validate=True): int(rank)
        for token, rank in (line.split() for line in lines if line)
    }
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ValueError(f"it has no token for the byte {missing[0]}")
    if len(set(ranks.values())) != len(lines):
        raise ValueError("two tokens share a rank")
    return ranks


def _instruction(
    row: Mapping[str, Any], input_column: str, output_column: str, system_prompt: str | None
) -> Iterator[Message]:
    if system_prompt is not None:
        yield "system", (system_prompt,)
    yield "user", (row[input_column],)
    yield "assistant", (row[output_column],)


def _chat(messages: Iterable[Mapping[str, Any]], system_prompt: str | None) -> Iterator[Message]:
    if system_prompt is not None:
        yield "system", (system_prompt,)
    for message in messages:
        if message["role"] != "system" or system_prompt is None:
            yield message["role"], texts_of(message["content"])


def texts_of(content: str | Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """A message's content is a text, or a list of parts with one each."""
    return (content,) if isinstance(content, str) else tuple(part["text"] for part in content)


def _pieces(text: str) -> Iterator[str]:
    """As torchtune cuts a long text before it is tokenized: a token never crosses a cut."""
    for start in range(0, len(text), ENCODED_AT_ONCE):
        part = text[start : start + ENCODED_AT_ONCE]
        cuts = [0, *_cuts(part), len(part)] if len(part) > LONGEST_RUN else [0, len(part)]
        for begin, end in zip(cuts, cuts[1:], strict=False):
            yield part[begin:end]


def _cuts(text: str) -> Iterator[int]:
    for run in _RUN.finditer(text):
        yield from range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN)
