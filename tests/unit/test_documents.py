import json
import time
from typing import Any

import jsonschema
import pytest
from django.core.management import call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import defaults, documents
from experiments.documents import InvalidDocument
from tests.lab import REPOSITORY
from tests.unit.test_bad_documents import CATALOGUE, GOOD

DOCUMENT: dict[str, Any] = {
    "name": "ranks",
    "dataset": {"generator": "capitalization", "word_length": 5, "words": 100},
    "factors": {"model": ["small", "large"], "lora_rank": [4, 64]},
}
EVERYTHING: dict[str, Any] = {
    **DOCUMENT,
    "dataset": None,
    "datasets": {"a": "words.json", "b": {"path": "b.csv", "format": "csv"}, "c": DOCUMENT["dataset"]},
    "prompts": {"none": "", "kind": "Please."},
    "factors": {"model": ["small", "large"], "dataset": ["a", "b", "c"], "prompt": ["none", "kind"]},
    "cells": [{"model": "large", "dataset": "a", "lora_rank": 128}],
    "exclude": [{"model": "small", "dataset": "c"}],
    "seeds": [0, 1],
    "fixed": {"batch_size": {"small": 16, "large": 8}, "epochs": 2, "learning_rate": 1e-4, "packed": True},
    "validation": {"split": "dev", "every_n_steps": 10, "max_batches": 3},
    "control": True,
    "evaluation": {"scorers": ["exact_match"], "temperature": 0},
    "keep": "best",
    "name_template": "{size}_{dataset}",
    "resources": {"devices": 1, "device_memory_mib": 100},
    "limits": {"timeout_seconds": 10},
}


def refusal(**change: Any) -> str:
    with pytest.raises(InvalidDocument) as refused:
        documents.parse({**DOCUMENT, **change})
    return str(refused.value)


def settings_of(levels: dict[str, Any], **fixed: Any) -> documents.TrainingSettings:
    document = documents.parse({**DOCUMENT, "factors": {"model": ["small", "large"]}, "fixed": fixed})
    return documents.training_settings(document, levels, defaults=defaults.load())


def test_a_document_comes_out_as_it_was_written() -> None:
    document = documents.parse(DOCUMENT)
    assert (document.name, document.factors["lora_rank"]) == ("ranks", (4, 64))
    assert (document.max_parallel, document.control, document.validation) == (2, False, None)


def test_levels_keep_their_types() -> None:
    levels = ["4", 4, 4.5, True]
    data = {"name": "own", "command": {"argv": ["x"]}, "factors": {"part": levels}}
    assert [(type(level), level) for level in documents.parse(data).factors["part"]] == [
        (type(level), level) for level in levels
    ]


def test_a_dataset_is_a_name_a_file_or_a_call() -> None:
    datasets = documents.parse(EVERYTHING).datasets
    assert datasets["a"] == "words.json"
    assert isinstance(datasets["b"], documents.DatasetFile) and datasets["b"].format == "csv"
    assert isinstance(datasets["c"], documents.GeneratorCall)
    assert datasets["c"].model_dump() == DOCUMENT["dataset"]


def test_validation_is_on_off_or_unsaid() -> None:
    said = [documents.parse({**DOCUMENT, "validation": said}).validation for said in (False, {}, None)]
    assert said == [False, documents.Validation(), None]


def test_every_problem_is_told_at_once() -> None:
    assert len(refusal(factor={}, priorty=1, max_parallel="many").splitlines()) == 3
    assert len(refusal(fixed={"epoch": 1, "batch_size": 0}, control=True).splitlines()) == 3


def test_of_very_many_problems_the_first_hundred_are_told_and_soon() -> None:
    begun = time.monotonic()
    told = refusal(**{f"unknown_{number}": 1 for number in range(10_000)})
    assert len(told.splitlines()) == documents.MAX_PROBLEMS
    assert time.monotonic() - begun < 5


def test_a_long_key_and_a_long_value_are_cut() -> None:
    assert max(map(len, refusal(**{"x" * 5000: 1, "keep": "y" * 5000}).splitlines())) < 600


def test_what_is_fixed_is_for_all_models_or_for_each() -> None:
    fixed = {"batch_size": {"small": 16, "large": 8}, "epochs": 3}
    small, large = (settings_of({"model": name}, **fixed) for name in ("small", "large"))
    assert (small.batch_size, large.batch_size) == (16, 8)
    assert (small.epochs, large.epochs) == (3, 3)


def test_a_model_that_a_setting_does_not_name_takes_the_default() -> None:
    assert settings_of({"model": "small"}, batch_size={"large": 8}).batch_size == 1
    document = documents.parse({**DOCUMENT, "fixed": {"batch_size": {"large": 8}}})
    assert "batch_size" not in documents.said_settings(document, {"model": "small"})


def test_keys_of_torchtune_are_no_settings_by_model() -> None:
    keys = {"optimizer": {"weight_decay": 0.1}}
    assert settings_of({"model": "small"}, torchtune=keys).torchtune == keys


def test_a_level_goes_before_what_is_fixed_and_alpha_follows_the_rank() -> None:
    settings = settings_of({"model": "small", "epochs": 7}, epochs=2, lora_rank=8)
    assert (settings.epochs, settings.lora_rank, settings.lora_alpha) == (7, 8, 16)
    assert settings_of({"model": "small"}, lora_rank=8, lora_alpha=5).lora_alpha == 5


def test_models_are_named_by_factors_cells_or_once() -> None:
    adapter = {"model": "third", "adapter": "x"}
    document = documents.parse({**DOCUMENT, "cells": [adapter], "evaluation": {}})
    assert documents.models_named(document) == ["small", "large", "third"]
    assert documents.models_trained(document) == ["small", "large"]
    fixed = documents.parse({**DOCUMENT, "factors": {"lora_rank": [4]}, "fixed": {"model": "one"}})
    assert documents.models_named(fixed) == ["one"]


@pytest.mark.parametrize(
    "change",
    [
        {"fixed": {"recipe": "mine.py"}},
        {"fixed": {"recipe": {"small": "mine.py", "large": "lora_finetune_single_device"}}},
        {"factors": {"model": ["small"], "recipe": ["mine.py"]}},
        {"cells": [{"model": "small", "recipe": "mine.py"}]},
    ],
)
def test_a_recipe_of_the_labs_own_is_seen_wherever_it_is_named(change: dict[str, Any]) -> None:
    assert documents.own_recipes(documents.parse({**DOCUMENT, **change})) == ["mine.py"]


@pytest.mark.parametrize(
    ("fixed", "changes", "expected"),
    [
        ({"batch_size": 4}, {"fixed.batch_size": {"small": 16}}, {"batch_size": {"small": 16, "large": 4}}),
        (
            {"batch_size": {"small": 2, "large": 1}},
            {"fixed.batch_size": {"small": 16}},
            {"batch_size": {"small": 16, "large": 1}},
        ),
        ({}, {"fixed.batch_size": {"small": 16}}, {"batch_size": {"small": 16}}),
        ({}, {"fixed.epochs": 3}, {"epochs": 3}),
        ({}, {"fixed.torchtune": {"dtype": "fp32"}}, {"torchtune": {"dtype": "fp32"}}),
    ],
)
def test_a_proposal_for_one_model_leaves_the_others_as_they_were(
    fixed: dict[str, Any], changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    data = {**DOCUMENT, "fixed": fixed}
    new = documents.changed(data, changes)
    assert new["fixed"] == expected
    assert data["fixed"] == fixed  # it is a copy
    documents.parse(new)


def test_a_change_may_make_its_section() -> None:
    new = documents.changed(DOCUMENT, {"resources.devices": 2, "validation": False})
    assert (new["resources"], new["validation"]) == ({"devices": 2}, False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "It is not YAML"),
        ("- a\n- b", "It is not a mapping"),
        ("", "It is not a mapping"),
        ("name: !!python/object/apply:os.system [id]", "It is not YAML"),
        ("? [a]\n: b", "It is not YAML"),
        (
            "name: a\nfixed: {epochs: 1, epochs: 2}",
            r"epochs: The key 'epochs' is given twice, again in line 2\.",
        ),
        ("day: 2026-01-01", r"day: 2026-01-01 \(date\) is a value that JSON cannot hold"),
        ("rate: .inf", "a value that JSON cannot hold"),
        ("some: !!set {a, b}", "a value that JSON cannot hold"),
        ("large: 0x" + "f" * 5000, "too large"),
        ("large: " + "9" * 5000, "It is not YAML"),
        ('name: "a\\0b"', "name: It contains a NUL"),
        ('name: "\\ud800"', "a lone surrogate"),
        ("name: \ud800", "It is not YAML"),
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


def test_a_number_may_be_written_as_people_write_it() -> None:
    loaded = documents.load("a: 1e-4\nb: 3E5\nc: -2.5e3\nd: 1.0e-3\ne: e5\nf: 1e\n")
    assert list(loaded.values()) == [1e-4, 3e5, -2500.0, 1e-3, "e5", "1e"]


def test_a_key_may_stand_before_what_is_merged() -> None:
    assert documents.load("a: &a {x: 1}\nb: {<<: *a, x: 2}")["b"] == {"x": 2}


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from("ab4")
)
_KEYS = st.sampled_from(
    [
        *documents.ExperimentDocument.model_fields,
        *documents.TrainingSettings.model_fields,
        *(
            "model",
            "dataset",
            "prompt",
            "adapter",
            "path",
            "generator",
            "a",
            "b",
            "split",
            "argv",
            "torchtune",
        ),
    ]
)
_NODES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def test_a_key_that_looks_like_a_validators_is_an_unknown_key() -> None:
    with pytest.raises(InvalidDocument) as refused:
        documents.parse({**DOCUMENT, "<0>": None})
    assert [problem.path for problem in refused.value.problems] == ["<0>"]


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(_KEYS | st.text(max_size=5), _NODES, max_size=6),
    st.sampled_from([{}, DOCUMENT, EVERYTHING]),
)
def test_whatever_is_given_nothing_but_a_refusal_is_raised(
    change: dict[str, Any], base: dict[str, Any]
) -> None:
    try:
        documents.parse({**base, **change})
    except InvalidDocument as invalid:
        assert invalid.problems and all(problem.message for problem in invalid.problems)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_SCALARS | st.tuples(st.integers()), _SCALARS | st.binary(), max_size=4))
def test_neither_do_keys_and_values_that_only_python_has(change: dict[Any, Any]) -> None:
    with pytest.raises(InvalidDocument):
        documents.parse({**DOCUMENT, "fixed": change, "no such key": 1})


def test_the_schema_takes_what_is_taken() -> None:
    schema = documents.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for document in (DOCUMENT, EVERYTHING, documents.load(GOOD)):
        documents.parse(document)
        jsonschema.validate(document, schema)


@pytest.mark.parametrize(
    "name", ["an unknown key", "an unknown setting", "true for a number", "too small", "a method's capital"]
)
def test_the_schema_refuses_what_is_refused(name: str) -> None:
    (bad,) = [bad for bad in CATALOGUE if bad.name == name]
    document = {**documents.load(GOOD), **documents.load(bad.change)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, documents.json_schema())


def test_the_schema_is_printed_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("document_schema")
    assert json.loads(capsys.readouterr().out) == documents.json_schema()


def test_every_key_of_a_document_is_documented() -> None:
    page = (REPOSITORY / "docs/documents.md").read_text()
    models = [documents.ExperimentDocument, documents.TrainingSettings, documents.DatasetFile]
    models += [documents.Validation, documents.Evaluation]
    parts = documents.json_schema()["$defs"]
    keys = {key for model in models for key in model.model_fields}
    keys |= {key for part in parts.values() for key in part.get("properties", {})}
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


def test_every_document_of_the_page_can_be_read() -> None:
    page = (REPOSITORY / "docs/documents.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    whole = [block for block in blocks if block.startswith("name:")]
    assert len(whole) >= 3
    for block in whole:
        documents.parse(documents.load(block))
    for block in blocks:
        documents.load(block)
