import json
from pathlib import Path
from typing import Any

import pytest

from experiments import generators
from experiments.verification import file_hash


def make(**parameters: Any) -> generators.GeneratedDataset:
    return generators.generate("capitalization", **{"word_length": 5, "words": 100, **parameters})


def test_the_same_parameters_give_the_same_words_and_another_seed_others() -> None:
    assert make() == make()
    assert make().train != make(seed=1).train
    assert make().train[0] == {"input": make().train[0]["input"], "output": make().train[0]["input"].upper()}


def test_no_word_is_in_two_splits() -> None:
    made = make(words=2000)
    words = [row["input"] for split in made.splits.values() for row in split]
    assert len(words) == len(set(words)) == 2000
    assert {split: len(rows) for split, rows in made.splits.items()} == {
        "train": 1600,
        "validation": 200,
        "test": 200,
    }
    assert {len(word) for word in words} == {5}


def test_it_is_written_whole_with_how_it_was_made(tmp_path: Path) -> None:
    make().write(tmp_path / "words.json")
    written = json.loads((tmp_path / "words.json").read_text())
    assert written["metadata"]["parameters"] == {
        "word_length": 5,
        "words": 100,
        "seed": 0,
        "train_fraction": 0.8,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["words.json"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"lenght": 5}, "no parameter 'lenght'. Did you mean 'word_length'"),
        ({"word_length": 0}, "word_length is 0: give a whole number from 1 to 16"),
        ({"words": "many"}, "words is 'many': give a whole number"),
        ({"words": True}, "words is True"),
        ({"words": 1_000_001}, "from 1 to 1000000"),
        ({"words": 2}, "each split needs at least one word"),
        ({"word_length": 1, "words": 100}, "only 23 words of 1 letters can be made"),
        ({"train_fraction": 1}, "train_fraction is 1: give a number between 0 and 1"),
        ({"train_fraction": 0.855}, "give whole hundredths"),
    ],
)
def test_what_cannot_be_made_is_told(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**parameters)


def test_an_unknown_generator_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'capitalization'"):
        generators.generate("capitalisation")


def test_what_must_be_given_is_asked_for() -> None:
    with pytest.raises(ValueError, match="capitalization needs word_length, words"):
        generators.generate("capitalization")


@pytest.mark.parametrize(
    ("file_name", "call"),
    [
        (
            "words_5L_80P_1000.json",
            {"generator": "capitalization", "word_length": 5, "words": 1000, "train_fraction": 0.8},
        ),
        (
            "words_3L_57P_200_seed4.json",
            {
                "generator": "capitalization",
                "word_length": 3,
                "words": 200,
                "train_fraction": 0.57,
                "seed": 4,
            },
        ),
    ],
)
def test_a_file_name_says_the_call_that_makes_it(file_name: str, call: dict[str, Any]) -> None:
    assert generators.call_for(file_name) == call
    assert generators.make(call).file_name == file_name


@pytest.mark.parametrize(
    "name",
    ["words.json", "words_05L_80P_1000.json", "words_5L_80P_1000_seed0.json", "words_5L_80P_1000.jsonl"],
)
def test_a_name_that_no_generator_gives_has_no_call(name: str) -> None:
    assert generators.call_for(name) is None


def test_the_hash_is_known_before_the_file_is_written(tmp_path: Path) -> None:
    assert file_hash(make().write(tmp_path / "words.json")) == make().content_hash
