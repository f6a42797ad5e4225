"""What a document names, found on disk or made, and what is kept of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import catalogue
from experiments.catalogue import FoundDataset, NotFound
from experiments.documents import DatasetFile, GeneratorCall
from experiments.models import Dataset, TokenLengths
from experiments.verification import DatasetFacts
from tests.factories import NOW
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

MADE = "words_5L_80P_100.json"
CALL = {"generator": "capitalization", "word_length": 5, "words": 100, "train_fraction": 0.8}
ROWS = [{"input": f"word{number}", "output": f"WORD{number}"} for number in range(6)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    """Where the datasets are."""
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    shutil.copytree(REPOSITORY / "experiments/demo/models/tiny-llama-s", tmp_path / "models" / "tiny-llama-s")
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets"


def write(path: Path, **splits: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(splits))
    return path


def problem(source: Any) -> tuple[str, str]:
    with pytest.raises(NotFound) as missing:
        catalogue.find_dataset(source)
    return missing.value.problem.message, missing.value.problem.remedy


def lengths(dataset: FoundDataset, split: str = "train", **change: Any) -> np.ndarray[Any, Any]:
    model = catalogue.find_model("tiny-llama-s")
    return catalogue.token_lengths(model=model, dataset=dataset, split=split, now=NOW, **change)


def test_a_missing_file_that_a_generator_makes_is_made_on_approval(folder: Path) -> None:
    found = catalogue.find_dataset(f"tasks/{MADE}")
    assert (found.generator_call, found.facts.split_rows) == (
        CALL,
        {"train": 80, "validation": 10, "test": 10},
    )
    assert found.warnings()[0].startswith("Dataset words_5L_80P_100 is not there yet; its generator makes it")
    assert list(folder.iterdir()) == []
    catalogue.make_missing(catalogue.record_dataset(found, now=NOW))
    again = catalogue.find_dataset(f"tasks/{MADE}")
    assert again.path == folder / "tasks" / MADE
    assert again.facts == found.facts
    assert again.warnings() == ()
    assert again.data_source("test") == found.data_source("test")
    assert again.system_prompt == "Capitalize the given word."


def test_a_dataset_that_was_made_and_lost_is_made_again(folder: Path) -> None:
    made = catalogue.record_dataset(catalogue.find_dataset(GeneratorCall(**CALL)), now=NOW)
    found = catalogue.find_dataset(made.name)
    assert found.is_missing and found.generator_call == made.generator_call


def test_a_missing_file_is_answered_with_what_resembles_it(folder: Path) -> None:
    write(folder / "words.json", train=ROWS)
    message, remedy = problem("wrds.json")
    assert message == f"'wrds.json' is not there under the declared roots ({folder})."
    assert "Did you mean 'words.json'?" in remedy
    assert "No generator makes a file of this name; one makes words_5L_80P_1000.json, for example." in remedy


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (DatasetFile(path=MADE, input_column="question"), "A generator could make it here, as json_splits"),
        (DatasetFile(path=f"../{MADE}"), "A generator could make it here"),
        ("words_1L_80P_1000.json", "only 23 words of 1 letters can be made"),
        ("words_5L_100P_1000.json", "train_fraction is 1.0: give a number between 0 and 1"),
    ],
)
def test_what_no_generator_can_make_there_is_said(source: Any, sentence: str) -> None:
    assert sentence in " ".join(problem(source))


def test_a_file_that_only_has_the_name_of_a_generated_one_is_told(folder: Path) -> None:
    write(folder / MADE, train=ROWS)
    (warning,) = catalogue.find_dataset(GeneratorCall(**CALL)).warnings()
    assert warning.endswith("The file that is there is not the one that its generator makes.")


def test_findings_are_warnings_and_are_kept(folder: Path) -> None:
    write(folder / "words.json", train=[*ROWS, ROWS[0]], test=ROWS[1:2])
    found = catalogue.find_dataset("words.json")
    assert [warning.partition(": ")[2][:30] for warning in found.warnings()] == [
        "1 row of 'train' is a repetiti",
        "1 row of 'test' is in 'train' ",
    ]
    kept = catalogue.record_dataset(found, now=NOW).findings
    assert [(finding["kind"], finding["count"], finding["first_row"]) for finding in kept] == [
        ("duplicate", 1, 6),
        ("overlap", 1, 0),
    ]


def test_a_dataset_that_has_changed_since_is_told(folder: Path) -> None:
    path = write(folder / "words.json", train=ROWS)
    catalogue.record_dataset(catalogue.find_dataset("words.json"), now=NOW)
    assert catalogue.find_dataset("words.json").warnings() == ()
    write(path, train=ROWS[1:])
    assert "It has changed since it was last verified" in catalogue.find_dataset("words.json").warnings()[0]


def test_columns_and_messages_are_kept_for_who_names_the_dataset(folder: Path) -> None:
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    write(folder / "talks.json", train=[{"talk": talk}])
    file = DatasetFile(path="talks.json", messages_column="talk", system_prompt="Be brief.")
    kept = catalogue.record_dataset(catalogue.find_dataset(file), now=NOW)
    found = catalogue.find_dataset(kept.name)
    assert found.source.messages_column == "talk"
    assert found.data_source("train") == catalogue.find_dataset(file).data_source("train")


def test_files_of_one_name_in_two_folders_are_two_datasets(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder / name / "words.json", train=ROWS)
    rows = [
        catalogue.record_dataset(catalogue.find_dataset(f"{name}/words.json"), now=NOW)
        for name in ("a", "b", "b")
    ]
    assert [row.name for row in rows] == ["words", "b_words.json", "b_words.json"]
    assert Dataset.objects.count() == 2


def test_a_folder_gives_each_split_its_file(folder: Path) -> None:
    (folder / "words").mkdir()
    for split in ("train", "test"):
        (folder / "words" / f"{split}.csv").write_text(f"input,output\n{split},x\n")
    found = catalogue.find_dataset("words")
    source = found.data_source("test")
    assert (source.path, source.format) == (str(folder / "words" / "test.csv"), "csv")
    assert lengths(found, "test").shape == (1,)


def test_a_model_is_kept_with_its_shape_and_its_tokenizer() -> None:
    found = catalogue.find_model("tiny-llama-s")
    kept = catalogue.record_model(found, now=NOW)
    assert (kept.shape, kept.tokenizer_hash) == (
        "llama h128 l2 q2 kv2 i384 v320 tied",
        found.facts.tokenizer_hash,
    )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("meta-llama/Llama-3.2-1B", "hf download meta-llama/Llama-3.2-1B --local-dir {root}/Llama-3.2-1B"),
        ("Llama-3.2-1B", "hf download <repository> --local-dir {root}/Llama-3.2-1B"),
    ],
)
def test_a_missing_model_is_answered_with_how_to_get_it(tmp_path: Path, name: str, command: str) -> None:
    with pytest.raises(NotFound) as missing:
        catalogue.find_model(name)
    assert command.format(root=tmp_path / "models") in missing.value.problem.remedy
    assert "There is: tiny-llama-s." in missing.value.problem.remedy


def test_a_broken_model_needs_its_remedy_and_no_download_of_another(tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny-llama-s" / "config.json").write_text("{")
    with pytest.raises(NotFound) as missing:
        catalogue.find_model("tiny-llama-s")
    assert missing.value.problem.remedy == "Correct the file."


def test_token_lengths_are_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "words.json", train=ROWS, test=ROWS[:2])
    found = catalogue.find_dataset("words.json")
    counted = lengths(found)
    monkeypatch.setattr("experiments.tokens.lengths", None)
    assert lengths(found).tolist() == counted.tolist()
    assert TokenLengths.objects.get().rows == 6


def test_other_splits_prompts_and_contents_are_counted_anew(folder: Path) -> None:
    path = write(folder / "words.json", train=ROWS, test=ROWS[:2])
    found = catalogue.find_dataset("words.json")
    plain = lengths(found)
    assert lengths(found, "test").shape == (2,)
    assert (lengths(found, system_prompt="Shout.") > plain).all()
    write(path, train=[{"input": "longer than before", "output": "x"}])
    assert lengths(catalogue.find_dataset("words.json"))[0] > plain[0]
    assert TokenLengths.objects.count() == 4


def test_what_is_not_written_yet_has_the_lengths_that_it_will_have() -> None:
    found = catalogue.find_dataset(GeneratorCall(**CALL))
    before = lengths(found)
    catalogue.make_missing(catalogue.record_dataset(found, now=NOW))
    TokenLengths.objects.all().delete()
    assert lengths(catalogue.find_dataset(GeneratorCall(**CALL))).tolist() == before.tolist()


def test_an_empty_prompt_is_none_although_the_file_names_one(folder: Path) -> None:
    write(folder / "words.json", train=ROWS, metadata={"system_prompt": "Shout."})
    said = catalogue.find_dataset(DatasetFile(path="words.json", system_prompt=""))
    unsaid = catalogue.find_dataset("words.json")
    assert (said.data_source("train").system_prompt, unsaid.data_source("train").system_prompt) == (
        None,
        "Shout.",
    )
    assert lengths(unsaid, system_prompt="").tolist() == lengths(said).tolist()


def test_rows_that_are_gone_when_they_are_counted_are_told(folder: Path) -> None:
    found = catalogue.find_dataset(str(write(folder / "words.json", train=ROWS)))
    (folder / "words.json").write_text("{")
    with pytest.raises(NotFound, match=r"words\.json is not readable JSON"):
        lengths(found)


def test_lengths_are_summed_up() -> None:
    of_rows = np.arange(1, 101, dtype=np.uint32)
    assert catalogue.length_summary(of_rows, 90) == (50.5, 96, 100, 0.1)


def test_a_dataset_without_findings_has_no_warnings(folder: Path) -> None:
    path = write(folder / "words.json", train=ROWS)
    facts = DatasetFacts(format="json_splits", split_rows={"train": 6}, content_hash="0")
    assert FoundDataset("words", path, facts, DatasetFile(path=str(path))).warnings() == ()
