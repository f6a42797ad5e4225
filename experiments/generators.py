"""Datasets that can be made: deterministic, so a lab that names the call can make the same file again."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

CONSONANTS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"
LONGEST_WORD = 16  # beyond it there are more words than a float can tell apart
MOST_WORDS = 1_000_000  # they are made while a person waits for the plan
EXAMPLE_FILE_NAME = "words_5L_80P_1000.json"
_FILE_NAME = re.compile(
    r"words_(?P<word_length>\d{1,9})L_(?P<percent>\d{1,9})P_(?P<words>\d{1,9})(_seed(?P<seed>\d{1,9}))?\.json"
)

Row = dict[str, str]
Splits = dict[str, list[Row]]


@dataclass(frozen=True)
class GeneratedDataset:
    file_name: str
    metadata: Mapping[str, Any]
    train: tuple[Row, ...] = field(repr=False)
    validation: tuple[Row, ...] = field(repr=False)
    test: tuple[Row, ...] = field(repr=False)

    @property
    def splits(self) -> Splits:
        return {"train": [*self.train], "validation": [*self.validation], "test": [*self.test]}

    @property
    def text(self) -> str:
        """The JSON file of all splits."""
        return json.dumps({"metadata": dict(self.metadata), **self.splits}, indent=1) + "\n"

    @property
    def content_hash(self) -> str:
        """That of the file, also before it is written."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write all splits as one file that is either whole or absent."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(self.text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target


@dataclass(frozen=True)
class Generator:
    name: str
    description: str
    system_prompt: str
    make: Callable[..., GeneratedDataset]

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter names and their defaults; `inspect.Parameter.empty` where one must be given."""
        return {name: p.default for name, p in inspect.signature(self.make).parameters.items()}

    def __call__(self, **parameters: Any) -> GeneratedDataset:
        known = self.parameters
        for name in parameters:
            if name not in known:
                raise ValueError(f"{self.name} has no parameter {name!r}. {_suggest(name, known)}")
        missing = [
            n for n, default in known.items() if default is inspect.Parameter.empty and n not in parameters
        ]
        if missing:
            raise ValueError(f"{self.name} needs {', '.join(missing)}: give a value for each.")
        return self.make(**parameters)


def generate(name: str, **parameters: Any) -> GeneratedDataset:
    return get(name)(**parameters)


def make(call: Mapping[str, Any]) -> GeneratedDataset:
    """What a call makes: the generator's name under `generator`, and its arguments. Raises ValueError."""
    arguments = dict(call)
    return generate(arguments.pop("generator"), **arguments)


def call_for(file_name: str) -> dict[str, Any] | None:
    """The call that makes a file of this name, whether or not it can be made; None where no generator would name one so."""
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        return None
    word_length, percent, words, seed = (
        int(match[key] or 0) for key in ("word_length", "percent", "words", "seed")
    )
    if file_name != _file_name(word_length, percent, words, seed):
        return None
    call = {"generator": "capitalization", "word_length": word_length, "words": words}
    return {**call, "train_fraction": percent / 100, **({"seed": seed} if seed else {})}


def get(name: str) -> Generator:
    if name not in GENERATORS:
        raise ValueError(f"There is no generator {name!r}. {_suggest(name, GENERATORS)}")
    return GENERATORS[name]


def capitalization(
    word_length: int, words: int, seed: int = 0, train_fraction: float = 0.8
) -> GeneratedDataset:
    """Pronounceable lower-case words of one length; the answer is the word in capitals."""
    _check_capitalization(word_length, words, seed, train_fraction)
    percent = round(train_fraction * 100)
    rows = [{"input": word, "output": word.upper()} for word in _unique_words(word_length, words, seed)]
    train = words * percent // 100
    validation = train + (words - train) // 2
    parameters = {"word_length": word_length, "words": words, "seed": seed, "train_fraction": percent / 100}
    return GeneratedDataset(
        file_name=_file_name(word_length, percent, words, seed),
        metadata=_metadata("capitalization", parameters),
        train=tuple(rows[:train]),
        validation=tuple(rows[train:validation]),
        test=tuple(rows[validation:]),
    )


GENERATORS: dict[str, Generator] = {
    "capitalization": Generator(
        name="capitalization",
        description="Made-up words of one length and the same words in capitals.",
        system_prompt="Capitalize the given word.",
        make=capitalization,
    ),
}


def _file_name(word_length: int, percent: int, words: int, seed: int) -> str:
    return f"words_{word_length}L_{percent}P_{words}{f'_seed{seed}' if seed else ''}.json"


def _metadata(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    call = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    prompt = GENERATORS[name].system_prompt
    return {"generator": name, "call": f"{name}({call})", "parameters": parameters, "system_prompt": prompt}


def _check_capitalization(word_length: int, words: int, seed: int, train_fraction: float) -> None:
    _check_whole("word_length", word_length, 1, LONGEST_WORD)
    _check_whole("words", words, 1, MOST_WORDS)
    _check_whole("seed", seed, 0, None)
    _check_fraction("train_fraction", train_fraction)
    capacity = sum(_pattern_sizes(word_length))
    if words > capacity:
        raise ValueError(
            f"words is {words}, but only {capacity} words of {word_length} letters can be made: "
            "ask for fewer words or a larger word_length."
        )
    train = words * round(train_fraction * 100) // 100
    if train < 1 or words - train < 2:
        raise ValueError(
            f"words is {words}, which leaves {train} for training and {words - train} for validation and test: "
            "each split needs at least one word, so ask for more words or another train_fraction."
        )


def _check_whole(name: str, value: Any, low: int, high: int | None) -> None:
    wanted = f"from {low} to {high}" if high is not None else f"of at least {low}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}: give a whole number {wanted}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {value}: give a whole number {wanted}.")


def _check_fraction(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{name} is {value!r}: give a number between 0 and 1, such as 0.8.")
    if abs(value * 100 - round(value * 100)) > 1e-9:
        raise ValueError(f"{name} is {value}: give whole hundredths, such as {max(0.01, round(value, 2))}.")


def _suggest(name: str, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if nearest:
        return f"Did you mean {nearest[0]!r}?"
    return f"Choose one of: {', '.join(sorted(known))}."


def _unique_words(length: int, count: int, seed: int) -> list[str]:
    rng = Random(f"capitalization {length} {seed}")
    return [_word(length, index) for index in _draw(count, sum(_pattern_sizes(length)), rng)]


def _draw(count: int, capacity: int, rng: Random) -> Iterator[int]:
    """The start of a Fisher-Yates shuffle of range(capacity) that is never laid out.

    It uses only `Random.random()`, the one method whose sequence Python promises to keep.
    """
    moved: dict[int, int] = {}
    for i in range(count):
        j = i + int(rng.random() * (capacity - i))
        yield moved.get(j, j)
        moved[j] = moved.pop(i, i)


def _pattern_sizes(length: int) -> tuple[int, int]:
    """How many words start with a consonant and how many with a vowel."""
    more, less = (length + 1) // 2, length // 2
    return len(CONSONANTS) ** more * len(VOWELS) ** less, len(VOWELS) ** more * len(CONSONANTS) ** less


def _word(length: int, index: int) -> str:
    first_size, _ = _pattern_sizes(length)
    alphabets = (CONSONANTS, VOWELS) if index < first_size else (VOWELS, CONSONANTS)
    index = index if index < first_size else index - first_size
    letters = []
    for position in range(length):
        index, letter = divmod(index, len(alphabets[position % 2]))
        letters.append(alphabets[position % 2][letter])
    return "".join(letters)
