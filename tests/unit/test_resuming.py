"""Which earlier jobs a fine-tune may go on from, and what is said of it. What it takes over: tests/acceptance."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.conditions import Metric
from scheduler.programs.base import Command, PlacedJob, Verdict
from scheduler.programs.torchtune import Torchtune
from tests.unit.jobs import carried, finetune_spec, job_of, record, surroundings, write_finetune, write_model


def prepared(folder: Path, *earlier: Path, devices: int = 1, **fields: Any) -> tuple[PlacedJob, Command]:
    """A job in a folder of its own, with its files written."""
    folder.mkdir(exist_ok=True)
    spec = finetune_spec(model_path=str(write_model(folder.parent / "model")), **fields)
    job = job_of(folder, carried(spec, earlier_directories=earlier))
    command = Torchtune().prepare(job, surroundings(folder.parent))
    for path, text in command.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return job, command


def request_of(job: PlacedJob) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.paths.directory / "resume.json").read_text())
    return found


def refusal(job: PlacedJob) -> str:
    found = json.loads((job.paths.output / "resumed.json").read_text())
    assert found["source"] is None
    return " ".join(found["doubts"])


def test_a_first_launch_is_torchtunes_own_command(tmp_path: Path) -> None:
    job, command = prepared(tmp_path / "first")
    assert "torchtune._cli.tune" in command.argv
    assert not {"resume.json", "resumed.json", "takeover.py"} & {path.name for path in command.files}


def test_a_second_launch_is_told_of_the_first_and_is_repeated_from_the_beginning(tmp_path: Path) -> None:
    first, _ = prepared(tmp_path / "first")
    second, command = prepared(tmp_path / "second", first.paths.directory)
    assert command.argv[1:] == ("code/resuming.py", "--config", "finetune.yaml")
    assert request_of(second)["earlier"] == [str(first.paths.directory)]
    assert request_of(second)["output"] == str(second.paths.output)
    copied = {path.name for path in command.files if path.parent.name == "code"}
    assert {"resuming.py", "takeover.py", "validation.py", "step_clock.py"} <= copied
    script = command.files[second.paths.directory / "command.sh"]
    assert "torchtune._cli.tune" in script and "resuming" not in script


@pytest.mark.parametrize(("keep", "all_of_them"), [("all", True), ("best", True), ("last", False)])
def test_earlier_epochs_are_taken_over_where_they_may_be_kept(
    tmp_path: Path, keep: str, all_of_them: bool
) -> None:
    first, _ = prepared(tmp_path / "first", keep=keep)
    second, _ = prepared(tmp_path / "second", first.paths.directory, keep=keep)
    assert request_of(second)["keep_all"] is all_of_them


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"learning_rate": 0.5}, "its configuration was another"),
        ({"recipe": "lora_finetune_distributed", "world_size": 2}, "on several devices"),
        ({"steps_per_epoch": None}, "steps an epoch are not known"),
    ],
)
def test_what_is_not_gone_on_with_begins_anew_and_says_why(
    tmp_path: Path, fields: dict[str, Any], why: str
) -> None:
    first, _ = prepared(tmp_path / "first")
    second, command = prepared(tmp_path / "second", first.paths.directory, **fields)
    assert "torchtune._cli.tune" in command.argv
    assert why in refusal(second)


def test_a_labs_own_recipe_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    own = {"recipe": "mine.py", "recipe_file": str(tmp_path / "mine.py")}
    first, _ = prepared(tmp_path / "first", **own)
    second, _ = prepared(tmp_path / "second", first.paths.directory, **own)
    assert "own recipe" in refusal(second)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_job_whose_surroundings_make_no_sense_is_passed_over(tmp_path: Path, text: str) -> None:
    first, _ = prepared(tmp_path / "first")
    (first.paths.directory / "environment.json").write_text(text)
    second, _ = prepared(tmp_path / "second", first.paths.directory)
    assert "can be read" in refusal(second)


@pytest.mark.parametrize("key", ["versions", "model", "datasets"])
def test_another_model_dataset_or_version_is_not_gone_on_with(tmp_path: Path, key: str) -> None:
    first, _ = prepared(tmp_path / "first")
    environment = first.paths.directory / "environment.json"
    environment.write_text(json.dumps({**json.loads(environment.read_text()), key: "another"}))
    second, _ = prepared(tmp_path / "second", first.paths.directory)
    assert f"it had other {key}" in refusal(second)


@pytest.mark.parametrize("text", ["", "a: b", None])
def test_a_job_without_this_configuration_is_passed_over(tmp_path: Path, text: str | None) -> None:
    first, _ = prepared(tmp_path / "first")
    (first.paths.directory / "finetune.yaml").unlink()
    if text is not None:
        (first.paths.directory / "finetune.yaml").write_text(text)
    before, _ = prepared(tmp_path / "before")
    second, _ = prepared(tmp_path / "second", first.paths.directory, before.paths.directory)
    assert request_of(second)["earlier"] == [str(before.paths.directory)]
    assert len(request_of(second)["doubts"]) == 1


def test_one_epoch_is_begun_anew_without_a_word(tmp_path: Path) -> None:
    first, _ = prepared(tmp_path / "first", epochs=1)
    _, command = prepared(tmp_path / "second", first.paths.directory, epochs=1)
    assert not {"resume.json", "resumed.json"} & {path.name for path in command.files}


def gone_on(folder: Path, *, own_from: int = 3, taken: int = 2, **noted: Any) -> Verdict:
    """A fine-tune of two epochs of two steps, whose first was taken over."""
    job = job_of(folder, carried(finetune_spec()))
    write_finetune(job, steps=4)
    logs = job.paths.output / "logs"
    lines = (logs / "log_1.txt").read_text().splitlines(keepends=True)
    (logs / "log_1.txt").write_text("".join(lines[own_from - 1 :]))
    (logs / "taken_over.txt").write_text("".join(lines[:taken]))
    found = {"source": "/runs/000012-first", "epochs": 1, "steps": 2, "doubts": [], **noted}
    (job.paths.output / "resumed.json").write_text(json.dumps(found))
    return Torchtune().verify(job, record())[7]


def test_steps_are_counted_over_both_parts_and_times_are_bounds(tmp_path: Path) -> None:
    verdict = gone_on(tmp_path)
    assert verdict.outcome.succeeded
    assert verdict.outcome.message == "It went on after 1 whole epoch of 000012-first."
    found = {measurement.metric: measurement for measurement in verdict.measurements}
    assert found[Metric.JOB_SECONDS].is_bound and found[Metric.PEAK_HOST_MEMORY_MIB].is_bound
    assert found[Metric.FINAL_LOSS].value == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


@pytest.mark.parametrize("parts", [{"own_from": 4}, {"taken": 1}])
def test_steps_that_are_missing_between_the_parts_are_missed(tmp_path: Path, parts: dict[str, int]) -> None:
    outcome = gone_on(tmp_path, **parts).outcome
    assert (outcome.succeeded, outcome.reason) == (False, "RESULT_INCOMPLETE")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": 1, "epochs": "x", "doubts": []}'])
def test_a_record_that_makes_no_sense_says_nothing(tmp_path: Path, text: str) -> None:
    job = job_of(tmp_path, carried(finetune_spec()))
    write_finetune(job, steps=4)
    (job.paths.output / "resumed.json").write_text(text)
    outcome = Torchtune().verify(job, record())[7].outcome
    assert (outcome.succeeded, outcome.message) == (True, "")
