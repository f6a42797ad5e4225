"""`plan FILE --approve`: a plan is kept and its runs are queued, both or neither."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError

from experiments import control, documents, lifecycle, planning
from experiments.models import Experiment, Run
from tests.factories import NOW
from tests.integration.api_client import simulated
from tests.integration.commands import command
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

DEMO = documents.load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
ASKS = {key: value for key, value in DEMO.items() if key != "validation"}  # which a suggestion answers


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, settings: Any) -> Path:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    settings.RUN_ROOT = tmp_path
    shutil.copytree(REPOSITORY / "experiments/demo/models", tmp_path / "models")
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets"


def file_of(folder: Path, document: dict[str, Any]) -> str:
    (folder / "document.yaml").write_text(yaml.safe_dump(document))
    return str(folder / "document.yaml")


def broken(**_: object) -> int:
    raise ConnectionError("The database went away.")


def test_it_is_kept_and_approved_with_what_its_questions_suggest(tmp_path: Path, datasets: Path) -> None:
    told = command("plan", file_of(tmp_path, ASKS), "--approve").splitlines()
    assert told[-2:] == [
        "validation was not said; approved with validation=false.",
        f"Approved; {Run.objects.queued().count()} runs are queued.",
    ]
    experiment = Experiment.objects.get()
    assert (experiment.is_draft, experiment.document["validation"]) == (False, False)
    decided = list(experiment.log.filter(kind="decided").values_list("text", "by"))
    assert decided[0] == ("Planned. Answered: validation = False.", "the operator")
    assert len(list(datasets.iterdir())) == 1


def test_an_approval_that_breaks_off_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "approve", broken)
    with pytest.raises(ConnectionError):
        command("plan", file_of(tmp_path, simulated()), "--approve")
    assert not Experiment.objects.exists()


def test_an_approval_with_answers_that_breaks_off_leaves_the_draft_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = planning.plan(data=ASKS, user=None, now=NOW)
    experiment = planning.store(plan=plan, user=None, now=NOW)
    monkeypatch.setattr(lifecycle, "approve", broken)
    with pytest.raises(ConnectionError):
        control.approve(experiment=experiment, user=None, now=NOW, answers={"validation": False})
    experiment.refresh_from_db()
    assert "validation" not in experiment.document
    assert experiment.log.filter(kind="decided").count() == 1


def test_what_only_a_person_can_answer_leaves_a_draft_and_says_so(tmp_path: Path) -> None:
    fixed = {key: value for key, value in DEMO["fixed"].items() if key != "epochs"}
    with pytest.raises(CommandError, match="How many epochs"):
        command("plan", file_of(tmp_path, {**DEMO, "fixed": fixed}), "--approve", "--json")
    assert Experiment.objects.get().is_draft
    assert not Run.objects.queued().exists()


def test_a_name_that_is_taken_is_refused_before_anything_is_made(tmp_path: Path, datasets: Path) -> None:
    document = simulated(DEMO["name"])
    command("plan", file_of(tmp_path, document), "--approve")
    with pytest.raises(CommandError, match="was approved already"):
        command("plan", file_of(tmp_path, DEMO), "--approve")
    assert list(datasets.iterdir()) == []


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    printed = command("plan", file_of(tmp_path, simulated()), "--approve", "--json")
    assert len(json.loads(printed)["runs"]) == 2
    assert not Experiment.objects.get().is_draft
