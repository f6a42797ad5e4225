import json
from typing import Any

import pytest

from experiments import documents
from experiments.documents import InvalidDocument

DOCUMENT: dict[str, Any] = {
    "name": "ranks",
    "dataset": {"generator": "capitalization", "word_length": 5, "words": 100},
    "factors": {"model": ["tiny"], "lora_rank": [4, 64]},
}


def refusal(**change: Any) -> str:
    with pytest.raises(InvalidDocument) as refused:
        documents.parse({**DOCUMENT, **change})
    return str(refused.value)


def test_a_document_comes_out_as_it_was_written() -> None:
    document = documents.parse(DOCUMENT)
    assert (document.name, document.factors) == ("ranks", {"model": ("tiny",), "lora_rank": (4, 64)})
    assert (document.max_parallel, document.control) == (2, False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"factor": {}}, "factor: Unknown key 'factor'. Did you mean 'factors'?"),
        (
            {"limits": {"timeout": 5}},
            "limits.timeout: Unknown key 'timeout'. Did you mean 'timeout_seconds'?",
        ),
        ({"evaluation": {"scorer": []}}, "evaluation.scorer: Unknown key 'scorer'. Did you mean 'scorers'?"),
        (
            {"fixed": {"batchsize": 4}},
            "fixed.batchsize: Unknown setting 'batchsize'. Did you mean 'batch_size'?",
        ),
        ({"factors": {"lora_rank": [4]}}, "factors.model: No model is named."),
        ({"fixed": {"lora_rank": 4}}, "fixed.lora_rank: 'lora_rank' is a factor, too. Keep one of the two."),
        ({"control": True}, "so control: true needs an evaluation"),
        ({"simulated": {"duration_seconds": 1}}, "exactly one of dataset, command and simulated"),
        ({"dataset": None}, "exactly one of dataset, command and simulated"),
        ({"name": "plan"}, "the name 'plan' is reserved"),
        ({"name": "../up"}, "name: String should match pattern"),
        ({"factors": {"model": []}}, "factors.model"),
        ({"max_parallel": 0}, "max_parallel: Input should be greater than or equal to 1"),
        ({"priority": 10**12}, "priority: Input should be less than or equal to 1000"),
        ({"limits": {"timeout_seconds": 2**31}}, "limits.timeout_seconds"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(change: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**change)


def test_every_problem_is_told_at_once() -> None:
    assert len(refusal(factor={}, priorty=1, max_parallel="many").splitlines()) == 3


def test_a_level_that_a_setting_does_not_take_is_refused() -> None:
    document = documents.parse(DOCUMENT)
    with pytest.raises(InvalidDocument, match=r"fixed\.lora_rank"):
        documents.training_settings(document, {"lora_rank": 0})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "It is not YAML"),
        ("- a\n- b", "It is not a mapping"),
        ("", "It is not a mapping"),
        ("name: !!python/object/apply:os.system [id]", "It is not YAML"),
        ("day: 2026-01-01", "a value that JSON cannot hold"),
        ("rate: .inf", "a value that JSON cannot hold"),
        ('name: "a\\0b"', "NUL"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: " + "[" * 30 + "]" * 30, "nested too deeply"),
        ("[" * 50_000, "nested too deeply"),
        ("a: " + "x" * documents.MAX_DOCUMENT_BYTES, "larger than"),
        (
            "\n".join(
                ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
            ),
            "too large once its anchors are written out",
        ),
    ],
)
def test_text_that_is_no_document_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidDocument, match=sentence):
        documents.load(text)


def test_json_is_read_as_well_as_yaml() -> None:
    assert documents.load(json.dumps(DOCUMENT)) == DOCUMENT
