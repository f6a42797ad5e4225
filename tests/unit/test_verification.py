"""What is on disk, as it is: models and datasets that are whole. What is not: test_bad_datasets and test_bad_models."""

import csv
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments import tokens
from experiments.verification import (
    Columns,
    DatasetFacts,
    VerificationError,
    available,
    creatable_under,
    read_dataset,
    read_model,
    read_rows,
    resembling,
    resolve_under,
)
from tests.lab import REPOSITORY

TINY = REPOSITORY / "experiments/demo/models/tiny-llama-s"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(TINY, tmp_path / "model")
    return tmp_path / "model"


def refusal(model: Path) -> str:
    with pytest.raises(VerificationError) as refused:
        read_model(model)
    assert refused.value.remedy
    return refused.value.message


def test_a_whole_model_is_described_without_being_loaded(model: Path) -> None:
    facts = read_model(model)
    assert (facts.architecture, facts.parameter_count) == ("LlamaForCausalLM", 467_584)
    assert facts.shape == "llama h128 l2 q2 kv2 i384 v320 tied"
    assert (facts.builder, facts.not_trainable) == ("torchtune.models.llama3_2.lora_llama3_2", "")


def test_another_configuration_is_another_hash_and_the_same_tokenizer(model: Path) -> None:
    before = read_model(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 10_000.0}))
    after = read_model(model)
    assert after.content_hash != before.content_hash
    assert after.tokenizer_hash == before.tokenizer_hash


def test_another_tokenizer_has_another_hash(model: Path) -> None:
    before = read_model(model).tokenizer_hash
    with (model / "original" / "tokenizer.model").open("ab") as file:
        file.write(b"ZWU= 256\n")
    assert read_model(model).tokenizer_hash != before
    assert tokens.encoding(model / "original" / "tokenizer.model").encode("see") == [115, 256]


def test_weights_in_several_files_are_one_model(model: Path) -> None:
    whole = read_model(model).parameter_count
    content = (model / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    (model / "model.safetensors").unlink()
    weight_map = {}
    for number, name in enumerate(header, 1):
        begin, end = header[name]["data_offsets"]
        shard = json.dumps({name: {**header[name], "data_offsets": [0, end - begin]}}).encode()
        weight_map[name] = f"model-{number:05}.safetensors"
        data = content[8 + length + begin : 8 + length + end]
        (model / weight_map[name]).write_bytes(struct.pack("<Q", len(shard)) + shard + data)
    index = {"metadata": {"total_size": len(content) - 8 - length}, "weight_map": weight_map}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_model(model).parameter_count == whole


def test_a_model_of_another_family_is_described_and_not_trainable(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    facts = read_model(model)
    assert facts.builder == ""
    assert facts.not_trainable == "model_type 'gpt2' is not supported; use a Llama model."


def test_links_of_a_model_may_lead_to_anything_under_the_roots(model: Path, tmp_path: Path) -> None:
    """As in the cache of Hugging Face, where a model is a folder of links."""
    (tmp_path / "blobs").mkdir()
    shutil.move(model / "model.safetensors", tmp_path / "blobs" / "0a1b")
    (model / "model.safetensors").symlink_to(tmp_path / "blobs" / "0a1b")
    assert read_model(model, roots=[tmp_path]).parameter_count == 467_584


def test_a_shard_that_the_index_names_is_looked_for_beside_it(model: Path) -> None:
    shards = {"weight_map": {"w": "../../elsewhere.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(shards))
    assert refusal(model) == f"{model / 'elsewhere.safetensors'} is missing."


TENSORS = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def safetensors(header: Any, *, size: int = 24) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(size)


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


ROWS = [{"input": "a, b", "output": 'He said: "A"\nB'}, {"input": "ü", "output": "Ü"}]
TALKS = [
    {"talk": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    {
        "talk": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ho"},
        ]
    },
]


def write_csv(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, ["input", "output"])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_the_rows_of_every_format_are_read_by_its_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"data.{ending}"
    if ending == "json":
        path.write_text(json.dumps(ROWS))
    elif ending == "jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in ROWS))
    elif ending == "csv":
        write_csv(path, ROWS)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    facts = read_dataset(path)
    assert (facts.format, facts.split_rows, facts.findings) == (ending, {"train": 2}, ())
    assert [*read_rows(path, format=facts.format, split="train", columns=Columns())] == ROWS


def test_spreadsheets_write_a_mark_before_csv_that_is_no_part_of_a_column(tmp_path: Path) -> None:
    assert read_dataset(write_csv(tmp_path / "data.csv", ROWS, "utf-8-sig")).split_rows == {"train": 2}


def test_a_json_file_with_a_mapping_holds_splits_and_may_name_its_prompt(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"metadata": {"system_prompt": "Shout."}, "train": ROWS, "test": ROWS[:1]}))
    facts = read_dataset(path)
    assert (facts.format, facts.split_rows) == ("json_splits", {"train": 2, "test": 1})
    assert facts.system_prompt == "Shout."


def test_a_folder_has_a_file_a_split(tmp_path: Path) -> None:
    for split in ("test", "train", "validation"):
        write_csv(tmp_path / f"{split}.csv", ROWS if split == "train" else [{"input": split, "output": "x"}])
    (tmp_path / "README.md").write_text("not data")
    facts = read_dataset(tmp_path)
    assert dict(facts.split_rows) == {"train": 2, "test": 1, "validation": 1}
    assert facts.split_files["test"] == str(tmp_path / "test.csv")
    assert facts.findings == ()


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_chats_are_read_from_a_column_of_messages(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"talks.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in TALKS))
    else:
        pq.write_table(pa.Table.from_pylist(TALKS), path)
    assert read_dataset(path, messages_column="talk").split_rows == {"train": 2}


def found_in(tmp_path: Path, **splits: list[tuple[str, str]]) -> DatasetFacts:
    rows = {name: [{"input": a, "output": b} for a, b in pairs] for name, pairs in splits.items()}
    (tmp_path / "data.json").write_text(json.dumps(rows))
    return read_dataset(tmp_path / "data.json")


def test_empty_and_repeated_rows_are_found_and_no_error(tmp_path: Path) -> None:
    facts = found_in(tmp_path, train=[("a", "A"), ("b", " "), ("a", "A"), ("a", "B"), ("b", " "), ("a", "A")])
    empty, duplicate = facts.findings
    assert (empty.kind, empty.count, empty.split, empty.first_row) == ("empty", 2, "train", 1)
    assert empty.sentence == "2 rows of 'train' are without a text; the first is row 1."
    assert (duplicate.kind, duplicate.count, duplicate.first_row) == ("duplicate", 3, 2)
    assert duplicate.sentence == "3 rows of 'train' are a repetition of an earlier one; the first is row 2."


def test_what_was_trained_on_and_is_tested_is_found(tmp_path: Path) -> None:
    train = [("a", "A"), ("b", "B")]
    facts = found_in(tmp_path, train=train, validation=[("c", "C")], test=[("d", "D"), ("b", "other")])
    (overlap,) = facts.findings
    assert (overlap.kind, overlap.split, overlap.count, overlap.first_row) == ("overlap", "test", 1, 1)
    assert overlap.sentence.startswith("1 row of 'test' is in 'train' with the same input")


def test_a_change_since_it_was_last_verified_is_found(tmp_path: Path) -> None:
    before = found_in(tmp_path, train=[("a", "A")]).content_hash
    path = tmp_path / "data.json"
    assert read_dataset(path, previous_hash=before).findings == ()
    path.write_text(path.read_text() + " ")
    (change,) = read_dataset(path, previous_hash=before).findings
    assert (change.kind, change.count) == ("changed", 0)


def test_the_hash_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    before = read_dataset(tmp_path).content_hash
    write_csv(tmp_path / "test.csv", [{"input": "x", "output": "y"}])
    with_test = read_dataset(tmp_path).content_hash
    (tmp_path / "test.csv").rename(tmp_path / "validation.csv")
    assert len({before, with_test, read_dataset(tmp_path).content_hash}) == 3


def test_what_resembles_a_name_is_found_in_folders_too(tmp_path: Path) -> None:
    (tmp_path / "tasks" / "words").mkdir(parents=True)
    (tmp_path / "tasks" / "words" / "words_5L_80P_1000.json").touch()
    (tmp_path / "meta-llama" / "Llama-3.2-1B").mkdir(parents=True)
    (tmp_path / "meta-llama" / "Llama-3.2-1B" / "config.json").touch()
    assert available([tmp_path]) == ["meta-llama/Llama-3.2-1B", "tasks/words/words_5L_80P_1000.json"]
    assert resembling("words_5L_80P_100.json", [tmp_path]) == ["tasks/words/words_5L_80P_1000.json"]
    assert resembling("llama-3.2-1b-instruct", [tmp_path]) == ["meta-llama/Llama-3.2-1B"]


def test_a_file_may_be_made_only_under_a_root_where_nothing_is(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "there.json").touch()
    (root / "dangling.json").symlink_to(tmp_path / "nowhere")
    assert creatable_under("new/words.json", [root]) == root / "new" / "words.json"
    for path in (
        "../words.json",
        "link/words.json",
        "there.json",
        "dangling.json",
        str(tmp_path / "words.json"),
    ):
        assert creatable_under(path, [root]) is None


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
