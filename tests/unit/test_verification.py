"""What is on disk, as it is: tiny models and datasets, whole and broken."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from experiments.verification import VerificationError, read_dataset, read_model, resolve_under

TENSORS = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def safetensors(header: Any, *, size: int = 24) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(size)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(safetensors(TENSORS))
    return tmp_path


def refusal(model: Path) -> str:
    with pytest.raises(VerificationError) as refused:
        read_model(model)
    assert refused.value.remedy
    return refused.value.message


def test_a_whole_model_is_counted_without_being_loaded(model: Path) -> None:
    facts = read_model(model)
    assert (facts.architecture, facts.parameter_count) == ("LlamaForCausalLM", 6)


def test_another_configuration_is_another_hash(model: Path) -> None:
    before = read_model(model).content_hash
    (model / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 1}))
    assert read_model(model).content_hash != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    assert refusal(model) == f"{model / name} is missing."


def test_a_shard_that_the_index_names_is_looked_for_beside_it(model: Path) -> None:
    shards = {"weight_map": {"w": "../../elsewhere.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(shards))
    assert refusal(model) == f"{model / 'elsewhere.safetensors'} is missing."


def test_pickled_weights_are_no_model(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "model.safetensors is missing" in refusal(model)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (b"", "is not a whole safetensors file"),
        (struct.pack("<Q", 10**12) + b"{}", "is not a whole safetensors file"),
        (safetensors(TENSORS, size=23), "bytes where"),
        (safetensors(TENSORS, size=25), "bytes where"),
        (struct.pack("<Q", 4) + b"{{{{", "no readable safetensors header"),
        (safetensors({"w": {"shape": [2]}}), "is no checkpoint"),
        (safetensors(["w"]), "is no checkpoint"),
    ],
)
def test_broken_weights_are_told_from_whole_ones(model: Path, weights: bytes, sentence: str) -> None:
    (model / "model.safetensors").write_bytes(weights)
    assert sentence in refusal(model)


@pytest.mark.parametrize("config", ["[]", "{", "3"])
def test_a_configuration_that_is_none_is_refused(model: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    refusal(model)


def dataset(folder: Path, text: str, *, format: str = "json_splits") -> dict[str, int]:
    file = folder / "data"
    file.write_text(text)
    facts = read_dataset(file, format=format, input_column="input", output_column="output")
    return dict(facts.split_rows)


ROW = '{"input": "a", "output": "A"}'


@pytest.mark.parametrize(
    ("format", "text", "rows"),
    [
        (
            "json_splits",
            f'{{"train": [{ROW}, {ROW}], "test": [{ROW}], "metadata": {{}}}}',
            {"train": 2, "test": 1},
        ),
        ("json", f"[{ROW}]", {"train": 1}),
        ("jsonl", f"{ROW}\n\n{ROW}\n", {"train": 2}),
    ],
)
def test_the_rows_of_each_split_are_counted(
    tmp_path: Path, format: str, text: str, rows: dict[str, int]
) -> None:
    assert dataset(tmp_path, text, format=format) == rows


@pytest.mark.parametrize(
    ("format", "text", "sentence"),
    [
        ("json_splits", f"[{ROW}]", "is not a mapping of splits to rows"),
        ("json_splits", '{"train": {}}', "split 'train' is not a list of rows"),
        ("json_splits", f'{{"train": [{ROW}, {{"input": "a"}}]}}', "row 1 has no text in column 'output'"),
        ("json", '[{"input": 1, "output": "A"}]', "row 0 has no text in column 'input'"),
        ("jsonl", f"{ROW}\nno\n", "line 2 is not JSON"),
        ("json", "{", "is not readable JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, format: str, text: str, sentence: str) -> None:
    with pytest.raises(VerificationError, match=sentence):
        dataset(tmp_path, text, format=format)


def test_a_path_is_found_under_any_of_the_roots(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for root in (first, second):
        root.mkdir()
    (second / "here").touch()
    assert resolve_under("here", [first, second]) == second / "here"
    assert resolve_under(str(second / "here"), [first, second]) == second / "here"


@pytest.mark.parametrize("path", ["../secret", "link", "folder/secret", "missing", "x" * 5000, "nul\0"])
def test_nothing_outside_the_roots_is_found_by_whatever_way(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").touch()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(VerificationError, match="is not there under the declared roots"):
        resolve_under(path, [root])
