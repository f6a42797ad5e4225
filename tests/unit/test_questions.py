from typing import Any

import pytest

from experiments import defaults, documents, questions
from experiments.documents import InvalidDocument

DOCUMENT: dict[str, Any] = {
    "name": "ranks",
    "dataset": "words.json",
    "factors": {"model": ["small", "large"]},
    "evaluation": {},
}
ADAPTER = {"model": "small", "adapter": "x"}


def asked(split_rows: dict[str, int] | None = None, **change: Any) -> list[str]:
    rows = {"train": 80, "validation": 1000} if split_rows is None else split_rows
    document = documents.parse({**DOCUMENT, **change})
    return [
        question.key for question in questions.questions(document, split_rows=rows, defaults=defaults.load())
    ]


def test_epochs_and_validation_are_asked_where_they_are_not_said() -> None:
    assert asked() == ["fixed.epochs", "validation"]
    assert asked(fixed={"epochs": 1}, validation=False) == []


@pytest.mark.parametrize(
    "change",
    [
        {"fixed": {"epochs": 1}},
        {"fixed": {"epochs": {"small": 1, "large": 2}}},
        {"factors": {"model": ["small"], "epochs": [1, 2]}},
        {"factors": {}, "cells": [{"model": "small", "epochs": 1}]},
        {"factors": {}, "cells": [{"model": "small", "epochs": 1}, ADAPTER]},
    ],
)
def test_epochs_may_be_said_anywhere(change: dict[str, Any]) -> None:
    assert asked(**change) == ["validation"]


@pytest.mark.parametrize(
    "change",
    [
        {"cells": [{"model": "small", "epochs": 1}]},
        {"factors": {}, "cells": [{"model": "small", "epochs": 1}, {"model": "large"}]},
    ],
)
def test_epochs_are_asked_where_one_cell_lacks_them(change: dict[str, Any]) -> None:
    assert "fixed.epochs" in asked(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"validation": False},
        {"validation": {"every_n_steps": 5}},
        {"split_rows": {"train": 80, "test": 5}},
        {"split_rows": {"train": 80, "validation": 0}},
        {"resources": {"devices": 2}},
        {"fixed": {"recipe": "lora_finetune_single_device"}},
    ],
)
def test_validation_is_asked_only_where_it_is_open_and_possible(change: dict[str, Any]) -> None:
    assert "validation" not in asked(**change)


def test_of_what_is_not_trained_nothing_is_asked() -> None:
    assert asked(factors={}, cells=[ADAPTER]) == []
    program = {"dataset": None, "evaluation": None, "simulated": {"duration_seconds": 1}, "factors": {}}
    assert asked(**program) == []


def test_a_question_says_what_it_is_about_and_what_may_be_answered() -> None:
    epochs, validation = questions.questions(
        documents.parse(DOCUMENT), split_rows={"validation": 1000}, defaults=defaults.load()
    )
    assert "template's 1" in epochs.text and epochs.suggestion is None
    assert "1,000 validation rows" in validation.text and validation.suggestion is False
    assert validation.to_json()["key"] == "validation"


def test_answers_are_written_into_the_document() -> None:
    new = questions.answered(DOCUMENT, {"fixed.epochs": 3, "validation": {"every_n_steps": 5}})
    assert (new["fixed"], new["validation"]) == ({"epochs": 3}, {"every_n_steps": 5})
    assert "fixed" not in DOCUMENT
    each = questions.answered(DOCUMENT, {"fixed.epochs": {"small": 1, "large": 2}})
    assert each["fixed"]["epochs"] == {"small": 1, "large": 2}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"epochs": 3}, "Nothing was asked about 'epochs'. Did you mean 'fixed.epochs'?"),
        ({"fixed.epochs": 0}, "0 is less than 1"),
        ({"fixed.epochs": "three"}, "'three' is no whole number"),
        ({"fixed.epochs": {"small": 1}}, "epochs is not said for large"),
        ({"fixed.epochs": {"tiny": 1}}, "'tiny' is no model"),
        ({"validation": True}, "true does not say how to validate"),
        ({"fixed.batch_size": 4}, "Nothing was asked"),
    ],
)
def test_an_answer_that_is_none_is_refused(answers: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        questions.answered(DOCUMENT, answers)
    assert sentence in str(refused.value)
