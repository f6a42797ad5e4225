"""Token lengths against torchtune's own tokenizer, on texts of all kinds."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import tokens
from tests.lab import REPOSITORY

pytestmark = pytest.mark.engine

BYTES_ONLY = REPOSITORY / "experiments/demo/models/tiny-llama-s/original/tokenizer.model"
MERGED = (
    "\n\n",
    " t",
    "th",
    "the",
    " the",
    "in",
    "ing",
    "er",
    "us",
    "user",
    "assist",
    "ant",
    "aa",
    "aaaa",
    "12",
    "  ",
    "    ",
)
TEXTS = [
    "",
    " ",
    " \n\t leading and trailing  \n",
    "the user is the assistant's thinking thing",
    "Größe, naïve, Ελληνικά, 漢字, 한국어, עברית, 🙂👩‍👩‍👧‍👦 e\u0301",
    "<|begin_of_text|><|eot_id|> written out",
    "don't I'LL we've 1234567 3.14\r\n\r\n\tx  y   z",
    "\u00a0\u2003\u200bspaces of other kinds\x1c\x85",
    "a" * 25_000,
    "a" * 25_001,
    "a" * 60_001 + " " * 26_000 + "b" * 25_001,
    "ab " * 140_000,  # more than 400,000 characters
    "\n" * 30_000 + "x",
    "null\0char",
]


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A tokenizer that merges, too."""
    texts = [bytes([byte]) for byte in range(256)]
    for text in MERGED:
        texts += [text[:end].encode() for end in range(2, len(text) + 1)]
    lines = [base64.b64encode(text) + b" %d\n" % rank for rank, text in enumerate(dict.fromkeys(texts))]
    (tmp_path / "tokenizer.model").write_bytes(b"".join(lines))
    return tmp_path / "tokenizer.model"


def of_torchtune(requests: list[dict[str, Any]]) -> list[list[int]]:
    script = Path(__file__).with_name("torchtune_lengths.py")
    done = subprocess.run(
        [os.environ["LABMGR_ML_PYTHON"], str(script)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lengths: list[list[int]] = json.loads(done.stdout)
    return lengths


def counted(request: dict[str, Any]) -> list[int]:
    longest = request["max_seq_len"] or 2**32 - 1
    told = {name: value for name, value in request.items() if name not in ("tokenizer_file", "max_seq_len")}
    lengths = tokens.lengths(tokenizer_file=Path(request["tokenizer_file"]), **told)
    return np.minimum(lengths, longest).tolist()


ROWS = [{"question": text, "answer": TEXTS[-index]} for index, text in enumerate(TEXTS)]
CHATS = [
    {"talk": [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}]}
    for text in TEXTS
] + [
    {
        "talk": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": " the "}, {"type": "text", "text": " end"}],
            },
            {"role": "assistant", "content": "the"},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": ""},
        ]
    }
]


def requests_of(file: Path) -> list[dict[str, Any]]:
    return [
        {
            "tokenizer_file": str(file),
            "rows": rows,
            "input_column": "question",
            "output_column": "answer",
            "messages_column": column,
            "system_prompt": prompt,
            "max_seq_len": longest,
        }
        for rows, column in ((ROWS, None), (CHATS, "talk"))
        for prompt in (None, "Think of the thing. ")
        for longest in (None, 7, 24)
    ]


def test_every_row_has_the_tokens_that_torchtune_makes(merged: Path) -> None:
    requests = [*requests_of(merged), *requests_of(BYTES_ONLY)]
    assert [counted(request) for request in requests] == of_torchtune(requests)
