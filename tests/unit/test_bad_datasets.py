"""Datasets that cannot be used, each with the sentence that says so and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.verification import VerificationError, read_dataset

ROW = {"input": "a", "output": "A"}
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
Maker = Callable[[Path], Path]


def file(name: str, content: str | bytes) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return path

    return make


def splits(**rows: Any) -> Maker:
    return file("data.json", json.dumps(rows))


def lines(*rows: Any) -> Maker:
    return file("data.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def parquet(**columns: list[Any]) -> Maker:
    def make(folder: Path) -> Path:
        pq.write_table(pa.table(columns), folder / "data.parquet")
        return folder / "data.parquet"

    return make


def folder_of(**files: str) -> Maker:
    def make(folder: Path) -> Path:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        return folder

    return make


def linked_out(folder: Path) -> Path:
    (folder.parent / "secret.csv").write_text("input,output\na,A\n")
    (folder / "train.csv").symlink_to(folder.parent / "secret.csv")
    return folder


def chat(*messages: Any) -> Maker:
    return lines({"input": list(messages)})


CSV = "input,output\na,A\n"
BAD_DATASETS: dict[str, tuple[Maker, str, str]] = {
    "not JSON": (file("data.json", "{"), "data.json is not readable JSON", "Correct the file."),
    "JSON lines named .json": (
        file("data.json", '{"input": "a"}\n{"input": "b"}\n'),
        "is not readable JSON",
        "If each line is a row, give its format as jsonl.",
    ),
    "no splits": (splits(), "has no splits", "Give it rows, in a split 'train' first of all."),
    "a split that is no list": (splits(train={}), "split 'train' is not a list of rows", "Correct the file"),
    "an empty split": (
        splits(train=[ROW], test=[]),
        "split 'test' has no rows",
        "Give it rows, or remove it.",
    ),
    "an empty file": (file("data.jsonl", ""), "split 'train' has no rows", "Give it rows"),
    "a column that some rows lack": (
        splits(train=[ROW, {"input": "b", "outputs": "B"}]),
        "row 1 has no text in column 'output'",
        "Did you mean 'outputs'?",
    ),
    "a number for a text": (
        splits(train=[{"input": 3, "output": "A"}]),
        "row 0 has no text in column 'input'",
        "Write the value 3 as a text.",
    ),
    "a row that is none": (lines("a"), "row 0 has no text", "A row is a mapping of columns to texts."),
    "half a surrogate pair": (lines({**ROW, "input": "\ud800"}), "half a surrogate pair", "Correct the row."),
    "only dates, which become points in time": (
        lines({**ROW, "output": "2024-01-01"}, {**ROW, "output": "2024-01-02 10:00:00"}),
        "column 'output' holds only dates",
        "Write the dataset as CSV or Parquet.",
    ),
    "a byte order mark before JSON": (
        file("data.jsonl", "\ufeff" + json.dumps(ROW)),
        "begins with a byte order mark",
        "Save it as UTF-8, without",
    ),
    "another encoding": (
        file("data.csv", CSV.encode() + "é,É\n".encode("latin-1")),
        "data.csv, line 3 is not UTF-8: it has the byte 0xe9",
        "Save it as UTF-8",
    ),
    "UTF-16": (
        file("data.csv", CSV.encode("utf-16")),
        "line 1 is not UTF-8: it has the byte 0xff",
        "Save it",
    ),
    "CSV without the column": (
        file("data.csv", "input,ouput\na,A\n"),
        "data.csv has no column 'output'",
        "Did you mean 'ouput'?",
    ),
    "CSV with semicolons": (
        file("data.csv", "input;output\na;A\n"),
        "has one column, 'input;output'",
        "Separate the columns by commas.",
    ),
    "CSV with a column twice": (
        file("data.csv", "input,output,input\na,A,b\n"),
        "has the column 'input' twice",
        "Rename one",
    ),
    "CSV with a comma too many": (
        file("data.csv", CSV + "b,c,B\n"),
        "line 3 has 3 fields where the header has 2",
        "needs quotes around the field",
    ),
    "CSV with a quote that is never closed": (
        file("data.csv", CSV + 'b,"B\nc,C\n'),
        "data.csv, line 4 is not CSV",
        "a quote in a field is doubled",
    ),
    "Parquet that is not Parquet": (
        file("data.parquet", CSV),
        "data.parquet is no readable Parquet file",
        "Write it again, or correct its format.",
    ),
    "Parquet without the column": (
        parquet(input=["a"], answer=["A"]),
        "data.parquet has no column 'output'",
        "Known: answer, input.",
    ),
    "Parquet with a null": (
        parquet(input=["a", None], output=["A", "B"]),
        "row 1 has no text in column 'input'",
        "Write the value None as a text.",
    ),
    "no format at all": (
        file("data.txt", "a\n"),
        "is of no known format ('.txt')",
        "Give format: json_splits, json",
    ),
    "a name that the reader takes for a pattern": (
        file("data[1].jsonl", json.dumps(ROW)),
        "which torchtune takes for a pattern",
        "Rename it.",
    ),
    "a folder without data": (
        folder_of(notes_txt="a"),
        "is a folder without data files",
        "train.csv, test.csv",
    ),
    "a folder of several formats": (
        folder_of(train_csv=CSV, test_jsonl=json.dumps(ROW)),
        "has train.csv, test.jsonl.",
        "Let its files be of one format",
    ),
    "a split in two files": (
        folder_of(train_csv=CSV, train_jsonl=json.dumps(ROW)),
        "has two files for the split 'train': train.csv, train.jsonl",
        "Keep one of them.",
    ),
    "a folder with a link that leads out": (
        linked_out,
        "train.csv' is not there under the declared roots",
        "Put it there",
    ),
    "a fault in one file of a folder": (
        folder_of(train_csv=CSV, test_csv="input,output\n"),
        "test.csv, split 'test' has no rows",
        "Give it rows",
    ),
}
BAD_CHATS: dict[str, tuple[Maker, str, str]] = {
    "no messages": (
        lines({"inputs": TALK}),
        "has no list of messages in column 'input'",
        "Did you mean 'inputs'?",
    ),
    "messages in CSV": (file("data.csv", CSV), "has no list of messages", "Use JSON, JSONL or Parquet."),
    "an unknown role": (
        chat({"role": "human", "content": "hi"}),
        "message 0 has the role 'human'",
        "its role system, user, assistant",
    ),
    "a picture": (
        chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        "message 0 has a content that is no text",
        "Write it as a text",
    ),
    "two users in a row": (
        chat(TALK[0], TALK[0], TALK[1]),
        "has the messages user, user, assistant",
        "Let user and assistant take turns",
    ),
    "no answer": (chat(TALK[0]), "has the messages user.", "Let user and assistant take turns"),
    "nothing": (chat(), "has the messages of nobody", "Let user and assistant take turns"),
}


def refusal(path: Path, **how: Any) -> tuple[str, str]:
    with pytest.raises(VerificationError) as refused:
        read_dataset(path, **how)
    return refused.value.message, refused.value.remedy


@pytest.mark.parametrize("case", BAD_DATASETS)
def test_a_bad_dataset_is_told_with_its_remedy(tmp_path: Path, case: str) -> None:
    make, sentence, remedy = BAD_DATASETS[case]
    (tmp_path / "data").mkdir()
    told = refusal(make(tmp_path / "data"))
    assert sentence in told[0] and str(tmp_path) in told[0]
    assert remedy in told[1]


@pytest.mark.parametrize("case", BAD_CHATS)
def test_a_bad_chat_is_told_with_its_remedy(tmp_path: Path, case: str) -> None:
    make, sentence, remedy = BAD_CHATS[case]
    told = refusal(make(tmp_path), messages_column="input")
    assert sentence in told[0]
    assert remedy in told[1]


SMALL = {"MAX_DATASET_BYTES": 10, "MAX_JSON_BYTES": 10, "MAX_LINE_BYTES": 10, "MAX_ROW_GROUP_BYTES": 10}


@pytest.mark.parametrize(
    ("limit", "where", "make", "sentence", "remedy"),
    [
        ("MAX_DATASET_BYTES", "datasets", lines(ROW), "is larger than 10 bytes", "Split it."),
        ("MAX_JSON_BYTES", "rows", splits(train=[ROW]), "JSON is read at once", "Write it as JSONL"),
        ("MAX_LINE_BYTES", "rows", lines(ROW), "line 1 is longer than 10 bytes", "Write one row a line."),
        (
            "MAX_ROW_GROUP_BYTES",
            "rows",
            parquet(input=["a"], output=["A"]),
            "has a row group of",
            "smaller row groups",
        ),
    ],
)
def test_what_would_not_fit_in_memory_is_not_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    where: str,
    make: Maker,
    sentence: str,
    remedy: str,
) -> None:
    monkeypatch.setattr(f"experiments.verification.{where}.{limit}", SMALL[limit])
    told = refusal(make(tmp_path))
    assert sentence in told[0] and remedy in told[1]
