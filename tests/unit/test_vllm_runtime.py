"""The parts of the evaluation that need no vLLM: its request, rows, prompts, scores and results."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from scheduler.programs.vllm import EVALUATE, build_request
from tests.unit.jobs import DATA, carried, evaluate_spec, job_of

NAMES = ("adapters", "engine", "entries", "evaluate", "prompts", "results", "scorers")
SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


@pytest.fixture(scope="module")
def runtime() -> Iterator[dict[str, ModuleType]]:
    """Imported as its script does, from its own folder; by nobody else."""
    sys.path.insert(0, str(EVALUATE.parent))
    yield {name: __import__(name) for name in NAMES}
    sys.path.remove(str(EVALUATE.parent))
    for name in NAMES:
        sys.modules.pop(name)


class Bytes:
    """A tokenizer of bytes, with special tokens above them."""

    eos_token_id = 259

    def get_vocab(self) -> dict[str, int]:
        return {token: 256 + n for n, token in enumerate(SPECIAL)}

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(text.encode())


def entry(runtime: dict[str, ModuleType], path: Path, **fields: Any) -> Any:
    request = build_request(job_of(path.parent, carried(evaluate_spec())))
    return runtime["entries"].Entry(**{**request["entries"][0], "data_file": str(path), **fields})


def test_the_script_understands_the_request_that_the_program_writes(
    runtime: dict[str, ModuleType], tmp_path: Path
) -> None:
    request = build_request(job_of(tmp_path, carried(evaluate_spec())))
    (tmp_path / "request.json").write_text(json.dumps(request))
    read = runtime["entries"].read_request(tmp_path / "request.json")
    assert asdict(read) == request
    assert not read.is_cancelled(read.entries[0])
    Path(read.cancel_dir).mkdir(parents=True)
    (Path(read.cancel_dir) / "7").touch()
    assert read.is_cancelled(read.entries[0])


class Breaking:
    """An engine that boots, and breaks over the first prompt."""

    def __init__(self, *_: Any) -> None:
        pass

    def tokenize(self, *_: Any) -> None:
        raise sys.modules["engine"].EngineBroke("It broke.")


def test_an_engine_that_breaks_has_noted_whose_turn_it_was(
    runtime: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text('{"train": [{"input": "a", "output": "A"}]}')
    nowhere, there, later = (
        carried(evaluate_spec(data=replace(DATA, path=path)), run_id=run_id)
        for run_id, path in enumerate(("/nowhere", str(rows), str(rows)), start=1)
    )
    (tmp_path / "request.json").write_text(json.dumps(build_request(job_of(tmp_path, nowhere, there, later))))
    monkeypatch.setattr(runtime["evaluate"], "Engine", Breaking)
    assert runtime["evaluate"].main(tmp_path / "request.json") == 4
    assert json.loads((tmp_path / "engine.json").read_text())["active_run_id"] == 2


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json", '[{"input": "a", "output": "A"}, {"input": "b", "output": "B"}]'),
        ("jsonl", '{"input": "a", "output": "A"}\n\n{"input": "b", "output": "B"}\n'),
        ("csv", '\ufeffinput,output\na,A\n"b",B\n'),
        ("json_splits", '{"train": [{"input": "a", "output": "A"}, {"input": "b", "output": "B"}]}'),
    ],
)
def test_rows_of_every_format_are_read_up_to_the_limit(
    runtime: dict[str, ModuleType], tmp_path: Path, format: str, text: str
) -> None:
    path = tmp_path / "data"
    path.write_text(text)
    read = runtime["entries"].read_rows
    assert [row.expected for row in read(entry(runtime, path, data_format=format))] == ["A", "B"]
    assert len(read(entry(runtime, path, data_format=format, limit=1))) == 1


def test_rows_of_parquet_are_read(runtime: dict[str, ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"input": "a", "output": "A"}]), path)
    rows = runtime["entries"].read_rows(entry(runtime, path, data_format="parquet"))
    assert [(row.input, row.expected) for row in rows] == [("a", "A")]


def test_in_csv_everything_is_text(runtime: dict[str, ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("input,output\n007,NA\nnull,1.50\n")
    rows = runtime["entries"].read_rows(entry(runtime, path, data_format="csv"))
    assert [(row.input, row.expected) for row in rows] == [("007", "NA"), ("null", "1.50")]


def test_of_a_conversation_the_last_answer_is_expected_and_the_rest_is_said_before(
    runtime: dict[str, ModuleType], tmp_path: Path
) -> None:
    said = [("system", "s"), ("user", "a"), ("assistant", "A"), ("user", "b"), ("assistant", "B")]
    row = {"said": [{"role": role, "content": content} for role, content in said]}
    path = tmp_path / "data"
    path.write_text(json.dumps([row]))
    fields = {"data_format": "json", "messages_column": "said"}
    (own,) = runtime["entries"].read_rows(entry(runtime, path, **fields, system_prompt=None))
    assert (own.earlier, own.input, own.expected) == (said[:3], "b", "B")
    (ours,) = runtime["entries"].read_rows(entry(runtime, path, **fields, system_prompt="S"))
    assert ours.earlier == said[1:3]
    built = runtime["prompts"].build("llama3", Bytes(), "S", ours.input, ours.earlier)
    assert (
        bytes(token for token in built if token < 256)
        == b"system\n\nSuser\n\naassistant\n\nAuser\n\nbassistant\n\n"
    )


@pytest.mark.parametrize(
    ("fields", "text", "told"),
    [
        ({}, "{", "could not be read"),
        ({}, '{"test": []}', "has no split 'train'; it has test"),
        ({}, '{"train": []}', "has no rows"),
        ({}, '{"train": [{"input": 1, "output": "A"}]}', "Row 0 .* has no text in column 'input'"),
        ({"data_format": "json"}, "{}", "is not a list of rows"),
        ({"data_format": "xml"}, "", "There is no data format 'xml'"),
        (
            {"messages_column": "said"},
            '{"train": [{"said": "a"}]}',
            "has no list of messages in column 'said'",
        ),
        (
            {"messages_column": "said"},
            '{"train": [{"said": [{"role": "user", "content": "a"}]}]}',
            "has no answer of the assistant in 'said'",
        ),
        (
            {"messages_column": "said", "system_prompt": None},
            '{"train": [{"said": [{"role": "system", "content": "a"}, {"role": "assistant", "content": "A"}]}]}',
            "the assistant answers the system",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_explained(
    runtime: dict[str, ModuleType], tmp_path: Path, fields: dict[str, Any], text: str, told: str
) -> None:
    path = tmp_path / "data"
    path.write_text(text)
    with pytest.raises(runtime["entries"].EntryFailed, match=told) as failed:
        runtime["entries"].read_rows(entry(runtime, path, **fields))
    assert failed.value.reason == "DATA_INVALID"


@pytest.mark.parametrize(("said", "score"), [("Abc", 1.0), (" Abc\n", 1.0), ("abc", 0.0), ("", 0.0)])
def test_an_exact_match_ignores_nothing_but_space_around_it(
    runtime: dict[str, ModuleType], said: str, score: float
) -> None:
    scorers = runtime["scorers"]
    assert scorers.score(["exact_match"], said, "Abc") == {"exact_match": score}
    assert (
        scorers.mean(["exact_match"], [{"exact_match": score}, {"exact_match": 0.0}])["exact_match"]
        == score / 2
    )
    assert scorers.unknown(["exact_match", "bleu"]) == ["bleu"]


def test_a_prompt_is_what_torchtune_trained_on_up_to_the_answer(runtime: dict[str, ModuleType]) -> None:
    built = runtime["prompts"].build("llama3", Bytes(), "S", " <|eot_id|> ")
    begin, start, end, turn = range(256, 260)
    assert built == [
        *(begin, start, *b"system", end, *b"\n\n", *b"S", turn),
        *(start, *b"user", end, *b"\n\n", *b"<|eot_id|>", turn),
        *(start, *b"assistant", end, *b"\n\n"),
    ]
    assert runtime["prompts"].stop_token_ids(Bytes()) == [turn]


def test_an_unknown_prompt_format_is_named(runtime: dict[str, ModuleType]) -> None:
    with pytest.raises(runtime["prompts"].PromptError, match="no prompt format 'alpaca'"):
        runtime["prompts"].build("alpaca", Bytes(), None, "x")


def test_a_result_counts_once_all_its_predictions_are_there(
    runtime: dict[str, ModuleType], tmp_path: Path
) -> None:
    results = runtime["results"]
    results.write_json(tmp_path / "result.json", {"run_id": 7, "state": "succeeded", "rows": 2})
    results.write_lines(tmp_path / "predictions.jsonl", [{"index": 0}])
    assert not results.is_done(tmp_path, 7)
    results.write_lines(tmp_path / "predictions.jsonl", [{"index": 0}, {"index": 1}])
    assert results.is_done(tmp_path, 7) and not results.is_done(tmp_path, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.jsonl", "result.json"]


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (4, 8), (64, 64), (65, 128)])
def test_a_rank_runs_under_the_next_that_vllm_allows(
    runtime: dict[str, ModuleType], rank: int, allowed: int
) -> None:
    assert runtime["adapters"].allowed_rank(rank) == allowed


def test_an_adapter_that_was_cut_short_is_refused(runtime: dict[str, ModuleType], tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "adapter_config.json").write_text('{"r": 4}')
    (tmp_path / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"12")
    with pytest.raises(runtime["entries"].EntryFailed, match="was not written whole"):
        runtime["adapters"].check(tmp_path, tmp_path / "base", 8)
    with pytest.raises(runtime["entries"].EntryFailed, match="has rank 4; this engine was started for 1"):
        runtime["adapters"].check(tmp_path, tmp_path / "base", 1)
