from typing import Any

import pytest

from experiments import saying
from experiments.conditions import FIELDS
from experiments.documents import InvalidDocument
from experiments.models import Observation


def test_conditions_have_short_names_too() -> None:
    said = {"device": "A100 80GB", "model": "tiny", "rank": 4, "accumulation": 2, "packed": False}
    assert saying.conditions_said(said) == {
        "device_kind": "A100 80GB",
        "model_name": "tiny",
        "lora_rank": 4,
        "gradient_accumulation_steps": 2,
        "packed": False,
    }


def test_values_are_typed_by_their_column() -> None:
    said = {"tokens_per_step": 100, "batch_size": 4.0, "device": 4090, "parameter_count": 3_212_749_824}
    typed = saying.conditions_said(said)
    assert [(type(value), value) for value in typed.values()] == [
        *((float, 100.0), (int, 4), (str, "4090"), (int, 3_212_749_824))
    ]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"batchsize": 4}, "There is no condition 'batchsize'. Did you mean 'batch_size'?"),
        ({"packed": 0}, "0 does not fit packed. Say true or false."),
        ({"packed": "no"}, "'no' does not fit packed"),
        ({"rows": True}, "true does not fit rows. Say a number."),
        ({"rows": "many"}, "'many' does not fit rows. Say a number."),
        ({"rows": None}, "null does not fit rows"),
        ({"rows": 1.5}, "1.5 does not fit rows. Say a whole number."),
        ({"rows": -1}, "-1 does not fit rows. Say a number from 0 to 2147483647."),
        ({"rows": 2**31}, "Say a number from 0 to 2147483647."),
        ({"rows": float("inf")}, "inf does not fit rows. Say a number."),
        ({"tokens_per_step": float("nan")}, "nan does not fit tokens_per_step"),
        ({"parameter_count": 2**63}, "Say a number from 0 to 9223372036854775807."),
        ({"device": None}, "null does not fit device_kind. Say a text"),
        ({"device": ["A100"]}, "['A100'] does not fit device_kind"),
        ({"device": True}, "true does not fit device_kind"),
        ({"device": " "}, "does not fit device_kind"),
        ({"device": "x" * 201}, "at most 200 characters"),
        ({"device": "a\0b"}, "does not fit device_kind"),
        ({"precision": "b" * 11}, "at most 10 characters"),
        ({"rank": 4, "lora_rank": 8}, "lora_rank is said twice"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        saying.conditions_said(said)
    assert sentence in str(refused.value)


def test_every_problem_is_told() -> None:
    with pytest.raises(InvalidDocument) as refused:
        saying.conditions_said({"rows": "x", "packed": 1, "nothing": 2})
    assert [problem.path for problem in refused.value.problems] == ["rows", "packed", "nothing"]


@pytest.mark.parametrize("name", [name for name in FIELDS if Observation._meta.get_field(name).max_length])
def test_a_text_that_is_taken_fits_its_column(name: str) -> None:
    longest = Observation._meta.get_field(name).max_length
    assert longest is not None
    with pytest.raises(InvalidDocument):
        saying.conditions_said({name: "x" * (longest + 1)})


def test_pairs_are_read_as_yaml() -> None:
    assert saying.pairs(["packed=false", " rows =4000", "device=A100 80GB", "x=1e-4", "y=a=b", "z="]) == {
        "packed": False,
        "rows": 4000,
        "device": "A100 80GB",
        "x": 1e-4,
        "y": "a=b",
        "z": None,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("packed", "'packed' is not KEY=VALUE. Write such as packed=false."),
        ("=4", "'=4' is not KEY=VALUE"),
        ("rows=[", "'[' cannot be read"),
        ("rows=" + "[" * 900, "cannot be read|nested"),
        ("rows=" + "9" * 1001, "longer than 1000 characters"),
        ("day=2026-01-01", "cannot hold"),
        ("rows={a: 1, a: 2}", "given twice"),
    ],
)
def test_what_is_no_pair_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        saying.pairs([text])
    assert any(part in str(refused.value) for part in sentence.split("|"))


def test_a_key_said_twice_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="rows is said twice"):
        saying.pairs(["rows=1", "rows=2"])
