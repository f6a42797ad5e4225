from pathlib import Path

import pytest

from experiments import defaults
from experiments.defaults import BadDefaults


def written(path: Path, **change: str) -> Path:
    """The shipped file with some lines changed; a changed batch_size takes all that follows it."""
    lines = defaults.SHIPPED.read_text().split("\nbatch_size:")
    settings = [line for line in lines[0].splitlines() if line.partition(":")[0] not in change]
    sizes = [] if "batch_size" in change else [f"batch_size:{lines[1]}"]
    file = path / "own.yaml"
    file.write_text("\n".join([*settings, *(f"{key}: {value}" for key, value in change.items()), *sizes]))
    return file


@pytest.mark.parametrize(
    ("parameters", "batch_size"),
    [(1_235_814_400, 4), (1_999_999_999, 4), (2_000_000_000, 2), (3_200_000_000, 2), (8e9, 1), (None, 1)],
)
def test_the_batch_size_follows_the_models_size(parameters: float | None, batch_size: int) -> None:
    settings = defaults.load().settings(None if parameters is None else int(parameters))
    assert settings["batch_size"] == batch_size


def test_the_shipped_template_is_what_the_lab_agreed_on() -> None:
    told = defaults.load()
    assert (told.lora_rank, told.lora_alpha_over_rank, told.train_fraction) == (64, 2, 0.8)
    assert told.settings(None) == {
        "lora_rank": 64,
        "batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 3e-4,
        "max_seq_len": 512,
        "packed": False,
        "epochs": 1,
    }


def test_there_is_no_default_time() -> None:
    assert not [name for name in defaults.Defaults.model_fields if "time" in name or "second" in name]


def test_the_file_says_that_it_is_a_template_and_how_to_have_another() -> None:
    text = defaults.SHIPPED.read_text()
    assert "LABMGR_DEFAULTS" in text and "not a" in text and "recommendation" in text


def test_a_lab_may_have_its_own_file(tmp_path: Path) -> None:
    told = defaults.load(written(tmp_path, lora_rank="8", batch_size="[{value: 3}]"))
    assert (told.lora_rank, told.settings(10**12)["batch_size"]) == (8, 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lora_rank": "0"}, "lora_rank"),
        ({"lora_rank": "true"}, "lora_rank"),
        ({"lora_rank": "'8'"}, "lora_rank"),
        ({"packed": "1"}, "packed"),
        ({"train_fraction": "1"}, "train_fraction"),
        ({"lora_rnk": "8"}, "lora_rnk"),
        ({"batch_size": "[]"}, "batch_size"),
        ({"batch_size": "[{below: 2.0e+9, value: 4}]"}, "the last line has none"),
        ({"batch_size": "[{value: 4}, {value: 1}]"}, "the last line has none"),
        ({"batch_size": "[{below: 7.0, value: 4}, {below: 2.0, value: 2}, {value: 1}]"}, "grow from line to"),
    ],
)
def test_a_bad_file_is_told_with_its_place(tmp_path: Path, change: dict[str, str], sentence: str) -> None:
    file = written(tmp_path, **change)
    with pytest.raises(BadDefaults) as refused:
        defaults.load(file)
    assert str(file) in str(refused.value) and sentence in str(refused.value)


@pytest.mark.parametrize("content", [b"- a", b"[", b"\xff\xfe\xfa", b"", b"a: &a [*a]", b"[" * 50_000])
def test_a_file_that_is_no_template_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "own.yaml"
    file.write_bytes(content)
    with pytest.raises(BadDefaults, match=r"own\.yaml"):
        defaults.load(file)


def test_a_file_that_is_not_there_or_too_large_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadDefaults, match="cannot be read"):
        defaults.load(tmp_path / "none.yaml")
    large = tmp_path / "large.yaml"
    large.write_text("#" * (defaults.MAX_FILE_BYTES + 1))
    with pytest.raises(BadDefaults, match="larger than"):
        defaults.load(large)


def test_what_was_taken_from_the_template_is_said_once_with_all_its_values() -> None:
    said = [{"epochs": 2}, {"epochs": 2}]
    taken = [{"epochs": 2, "batch_size": 4, "packed": False}, {"epochs": 2, "batch_size": 2, "packed": False}]
    (sentence,) = defaults.used(said, taken)
    assert "not a recommendation" in sentence
    assert "batch_size 4 or 2" in sentence and "packed False" in sentence and "epochs" not in sentence


def test_where_all_is_said_nothing_is_taken() -> None:
    assert defaults.used([{"epochs": 2}], [{"epochs": 2}]) == []
