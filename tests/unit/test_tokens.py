"""Token lengths, with a tokenizer that has a token for each byte and no other; with torchtune: engine tests."""

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import generators, tokens
from experiments.tokens import BrokenTokenizer
from tests.lab import REPOSITORY

TINY = REPOSITORY / "experiments/demo/models/tiny-llama-s/original/tokenizer.model"
AROUND = 2 + 2 * (3 + 2) + len("user") + len("assistant")  # of a row without texts: begin, end, two headers


def lengths(rows: list[dict[str, Any]], **change: Any) -> list[int]:
    named = {"tokenizer_file": TINY, "input_column": "q", "output_column": "a"}
    found: list[int] = tokens.lengths(rows=rows, **{**named, **change}).tolist()
    return found


def test_a_row_has_its_texts_their_headers_and_both_ends() -> None:
    rows = [{"q": "abc", "a": "ABCDE"}, {"q": "", "a": ""}, {"q": " spaces do not count\n", "a": "é"}]
    assert lengths(rows) == [AROUND + 8, AROUND, AROUND + 19 + 2]


def test_special_tokens_in_a_text_are_text() -> None:
    assert lengths([{"q": "<|eot_id|>", "a": ""}]) == [AROUND + 10]


def test_a_system_prompt_is_one_message_more_even_if_it_is_empty() -> None:
    row = [{"q": "a", "a": "b"}]
    assert lengths(row, system_prompt="Shout.") == [lengths(row)[0] + 3 + 2 + len("system") + 6]
    assert lengths(row, system_prompt="") == [lengths(row)[0] + 3 + 2 + len("system")]


def test_a_chat_keeps_its_own_system_message_unless_another_takes_its_place() -> None:
    talk = [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": [{"type": "text", "text": " c "}]},
    ]
    led = [{"role": "system", "content": "Be brief."}, *talk]
    assert lengths([{"talk": talk}], messages_column="talk") == [AROUND + 3]
    with_its_own, replaced = (
        lengths([{"talk": led}], messages_column="talk", system_prompt=prompt)[0] for prompt in (None, "No.")
    )
    assert with_its_own - replaced == len("Be brief.") - len("No.")


def test_a_token_never_crosses_the_place_where_torchtune_cuts_a_long_run(tmp_path: Path) -> None:
    texts = [*(bytes([byte]) for byte in range(256)), b"aa"]
    lines = [base64.b64encode(text) + b" %d\n" % rank for rank, text in enumerate(texts)]
    file = tmp_path / "tokenizer.model"
    file.write_bytes(b"".join(lines))
    whole, cut = lengths([{"q": "a" * 24_998, "a": ""}, {"q": "a" * 25_002, "a": ""}], tokenizer_file=file)
    assert whole - AROUND == 12_499
    assert cut - AROUND == 12_500 + 1
    (odd,) = lengths([{"q": "a" * 25_001 + " " + "a" * 3, "a": ""}], tokenizer_file=file)
    assert odd - AROUND == 12_500 + 1 + len([" ", "aa", "a"])


def test_no_rows_have_no_lengths() -> None:
    assert lengths([]) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no lines of two", "is no tiktoken file"),
        (b"AA== 0\nAQ== 1\n", "it has no token for the byte 2"),
        (b"!!!! 0\n", "is no tiktoken file"),
        (
            b"".join(base64.b64encode(bytes([byte])) + b" 0\n" for byte in range(256)),
            "two tokens share a rank",
        ),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(BrokenTokenizer, match=sentence):
        tokens.encoding(tmp_path / "tokenizer.model")


def test_a_tokenizer_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(TINY.read_bytes())
    before = lengths([{"q": "see", "a": ""}], tokenizer_file=file)
    file.write_bytes(TINY.read_bytes() + b"ZWU= 256\n")
    assert lengths([{"q": "see", "a": ""}], tokenizer_file=file) == [before[0] - 1]


def test_thousands_of_rows_take_well_below_a_second() -> None:
    rows = generators.generate("capitalization", word_length=5, words=10_000).splits["train"]
    started = time.process_time()
    counted = tokens.lengths(
        tokenizer_file=TINY,
        rows=rows,
        input_column="input",
        output_column="output",
        system_prompt="Capitalize.",
    )
    assert time.process_time() - started < 1
    assert np.unique(counted).size == 1 and len(counted) == 8_000
