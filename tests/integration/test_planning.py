"""Plans against what is on disk: the demo's models, and a dataset that is made on approval."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from experiments import control, documents, planning
from experiments.documents import InvalidDocument
from experiments.models import BaseModel, Cell, Dataset, Experiment, Run
from experiments.planning import NameTaken
from tests.conftest import People
from tests.factories import NOW
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

DEMO = documents.load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())


@pytest.fixture(autouse=True)
def models(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(REPOSITORY / "experiments/demo/models", folder)
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [folder], [tmp_path / "datasets"]
    (tmp_path / "datasets").mkdir()
    return folder


def store(user: User | None = None, **change: Any) -> Experiment:
    plan = planning.plan(data={**DEMO, **change}, user=user, now=NOW)
    return planning.store(plan=plan, user=user, now=NOW)


def refusal(data: Mapping[str, Any]) -> str:
    with pytest.raises(InvalidDocument) as refused:
        planning.plan(data=data, user=None, now=NOW)
    return str(refused.value)


def test_planning_stores_nothing_and_writes_nothing(tmp_path: Path) -> None:
    plan = planning.plan(data=DEMO, user=None, now=NOW).to_json()
    assert {key: plan["totals"][key] for key in ("cells", "runs", "controls", "steps")} == {
        "cells": 6,
        "runs": 10,
        "controls": 2,
        "steps": 4 * 800,
    }
    assert {row["estimates"]["seconds"]["grade"] for row in plan["runs"]} == {"none"}
    assert list((tmp_path / "datasets").iterdir()) == []
    assert not any(table.objects.exists() for table in (Experiment, Cell, Run, Dataset, BaseModel))


def test_a_stored_plan_reads_as_the_one_that_was_shown() -> None:
    shown = planning.plan(data=DEMO, user=None, now=NOW).to_json()
    assert planning.stored_plan_json(store()) == shown


def test_approval_makes_the_dataset_that_is_missing(tmp_path: Path) -> None:
    control.approve(experiment=store(), user=None, now=NOW)
    (made,) = (tmp_path / "datasets").iterdir()
    assert len(json.loads(made.read_text())["train"]) == 1600


def test_a_draft_is_replaced_and_an_approved_plan_is_not(people: People) -> None:
    first = store(people.owner)
    second = store(people.owner, question="Another?")
    assert (second.pk, second.question) == (first.pk, "Another?")
    control.approve(experiment=second, user=people.owner, now=NOW)
    with pytest.raises(NameTaken, match="was approved already; plan it under a new name"):
        store(people.owner)
    assert Run.objects.filter(cell__experiment=second).count() == 10


def test_the_draft_of_somebody_else_is_not_replaced(people: People) -> None:
    store(people.owner)
    with pytest.raises(NameTaken, match="a draft of somebody else"):
        store(people.colleague)


def test_only_who_may_run_commands_plans_one(people: People) -> None:
    document = {"name": "own", "command": {"argv": ["true"]}}
    with pytest.raises(PermissionDenied, match="run_commands"):
        planning.plan(data=document, user=people.owner, now=NOW)
    assert len(planning.plan(data=document, user=None, now=NOW).cells) == 1


def test_a_model_that_is_not_there_is_answered_with_the_nearest() -> None:
    told = refusal({**DEMO, "factors": {"model": ["tiny-lama-s", "tiny-llama-m"]}})
    assert "Did you mean 'tiny-llama-s'?" in told
    assert "hf download" in told


def test_a_link_out_of_the_model_root_is_not_followed(models: Path, tmp_path: Path) -> None:
    shutil.move(models / "tiny-llama-s", tmp_path / "elsewhere")
    (models / "tiny-llama-s").symlink_to(tmp_path / "elsewhere")
    assert "is not there under the declared roots" in refusal(DEMO)


def test_what_torchtune_would_stumble_over_is_said_before(models: Path) -> None:
    (models / "tiny-llama-s" / "original" / "tokenizer.model").unlink()
    config = models / "tiny-llama-m" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "gpt2"}))
    told = refusal(DEMO)
    assert "original/tokenizer.model is missing" in told
    assert "model_type 'gpt2' is not supported" in told


def test_so_many_cells_are_refused_before_they_are_laid_out() -> None:
    factors = {"part": list(range(101)), "other": list(range(100))}
    told = refusal({"name": "big", "simulated": {"duration_seconds": 1}, "factors": factors})
    assert "10100 cells are more than 10000" in told


def test_a_recipe_of_ones_own_needs_its_permission_for_one_model_too(people: People) -> None:
    fixed = {**DEMO["fixed"], "recipe": {"tiny-llama-s": "mine.py"}}
    with pytest.raises(PermissionDenied, match=r"experiments\.run_own_recipes"):
        planning.plan(data={**DEMO, "fixed": fixed}, user=people.owner, now=NOW)


def test_a_bad_file_of_defaults_is_told_as_what_it_is(tmp_path: Path, settings: Any) -> None:
    settings.DEFAULTS_FILE = tmp_path / "defaults.yaml"
    settings.DEFAULTS_FILE.write_text("lora_rank: 0")
    told = refusal(DEMO)
    assert str(settings.DEFAULTS_FILE) in told and "unset LABMGR_DEFAULTS" in told


def test_a_model_that_a_setting_does_not_name_takes_the_template_and_the_plan_says_so() -> None:
    fixed = {**DEMO["fixed"], "batch_size": {"tiny-llama-s": 16}}
    plan = planning.plan(data={**DEMO, "fixed": fixed}, user=None, now=NOW)
    sizes = {cell.finetune.model_name: cell.finetune.batch_size for cell in plan.cells if cell.finetune}
    assert sizes == {"tiny-llama-s": 16, "tiny-llama-m": 4}
    assert any("template" in warning and "batch_size 4" in warning for warning in plan.warnings)
