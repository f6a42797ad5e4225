"""What a run ran with, beside what is there now."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.rerunning.differences import differences
from experiments.specs import CommandSpec, FinetuneSpec, ProbeSpec
from scheduler.programs.changes import Present, changes
from tests.unit.jobs import DATA, finetune_spec


@pytest.fixture
def spec(tmp_path: Path) -> FinetuneSpec:
    """Of a lab's own recipe, with the folder of its job."""
    for name in ("rows.json", "mine.py"):
        (tmp_path / name).write_text("[]")
    own = tmp_path / "job/code/own"
    own.mkdir(parents=True)
    (own / "mine.py").write_text("[]")
    data = replace(DATA, path=str(tmp_path / "rows.json"))
    return finetune_spec(data=data, recipe="mine.py", recipe_file=str(tmp_path / "mine.py"))


def told(folder: Path, spec: object) -> list[str]:
    present = Present(folder / "ml/bin/python")
    return changes(spec=spec, directory=folder / "job", present=present)  # type: ignore[arg-type]


def test_a_recipe_file_that_was_changed_is_told(tmp_path: Path, spec: FinetuneSpec) -> None:
    assert told(tmp_path, spec) == []
    (tmp_path / "mine.py").write_text("print()")
    assert told(tmp_path, spec) == [f"recipe {tmp_path / 'mine.py'} has changed"]
    probe = ProbeSpec(finetune=spec, row_indices=(0,))
    assert told(tmp_path, probe) == told(tmp_path, spec)


def test_what_is_not_there_now_has_not_changed(tmp_path: Path, spec: FinetuneSpec) -> None:
    written_down(tmp_path, datasets=[{"path": spec.data.path, "sha256": "other"}])
    assert told(tmp_path, spec) == [f"dataset {spec.data.path} has changed"]
    for name in ("rows.json", "mine.py"):
        (tmp_path / name).unlink()
    assert told(tmp_path, spec) == []


def test_a_link_in_place_of_what_was_written_down_is_not_followed(tmp_path: Path, spec: FinetuneSpec) -> None:
    written_down(tmp_path, datasets=[{"path": spec.data.path, "sha256": "other"}])
    file = tmp_path / "job/environment.json"
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    assert told(tmp_path, spec) == []


def test_of_a_command_nobody_knows_what_it_reads(tmp_path: Path, spec: FinetuneSpec) -> None:
    written_down(tmp_path, versions={"torch": "1"})
    assert told(tmp_path, CommandSpec(argv=("true",))) == []


def written_down(folder: Path, **facts: object) -> None:
    (folder / "job/environment.json").write_text(json.dumps(facts))


def test_differences_name_the_setting_and_both_its_values() -> None:
    before = {"batch_size": 4, "data": {"path": "/a", "split": "train"}, "old": 1, "overrides": {}}
    after = {"batch_size": 8, "data": {"path": "/b", "split": "train"}, "new": None, "overrides": {}}
    assert differences(before, after) == [
        "batch_size 4 is now 8",
        "data.path /a is now /b",
        "old 1 is gone",
        "new is now None",
    ]
    assert differences(before, before) == []
