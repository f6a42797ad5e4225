"""The planning sessions that labmgr began with (shared seeds), as plans: the figures they should have got."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from experiments import planning
from experiments.models import Observation
from tests.checkpoints import LLAMA_3_2_1B, LLAMA_3_2_3B, write_checkpoint
from tests.factories import NOW

pytestmark = pytest.mark.django_db

LOG = Path(__file__).resolve().parents[1] / "data/slurm/slurm-1001-reconstructed.out"
FIRST = {
    "name": "cap_first",
    "dataset": {"generator": "capitalization", "word_length": 5, "words": 10_000},
    "factors": {"model": ["Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct"], "lora_rank": [4, 64]},
    "fixed": {"batch_size": 4, "epochs": 2, "max_seq_len": 128, "packed": False},
    "validation": False,
    "control": True,
    "evaluation": {"split": "test"},
    "name_template": "{size}_rank{lora_rank}",
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    settings.RUN_ROOT = tmp_path
    write_checkpoint(tmp_path / "models/Llama-3.2-1B-Instruct", LLAMA_3_2_1B)
    write_checkpoint(tmp_path / "models/Llama-3.2-3B-Instruct", LLAMA_3_2_3B)
    (tmp_path / "datasets").mkdir()


def planned(**change: Any) -> dict[str, Any]:
    return planning.plan(data={**FIRST, **change}, user=None, now=NOW).to_json()


def test_the_first_session_gives_its_table_of_six_rows() -> None:
    rows = [(row["name"], row["type"]) for row in planned()["runs"]]
    assert rows == [
        ("1B_rank4", "finetuned"),
        ("1B_rank64", "finetuned"),
        ("3B_rank4", "finetuned"),
        ("3B_rank64", "finetuned"),
        ("1B_base", "control"),
        ("3B_base", "control"),
    ]


def test_nothing_is_estimated_without_evidence() -> None:
    plan = planned()
    assert all(row["estimates"]["seconds"]["value"] is None for row in plan["runs"])
    assert {proposal["kind"] for proposal in plan["proposals"]} == {"probe"}


def test_a_told_speed_gives_922_seconds_of_training() -> None:
    call_command(
        "observe",
        "seconds_per_step",
        "4.34it/s",
        set=["model=Llama-3.2-1B-Instruct", "batch_size=4", "packed=false"],
    )
    rows = {row["name"]: row for row in planned()["runs"]}
    told = rows["1B_rank4"]
    assert told["steps"] == 4000
    assert told["parts"]["training_seconds"]["value"] == pytest.approx(922, abs=0.5)
    assert told["parts"]["startup_seconds"]["value"] is None
    assert told["estimates"]["seconds"]["grade"] == "told"
    assert "no evidence" in told["estimates"]["seconds"]["note"]
    assert told["estimates"]["seconds"]["observations"] == [Observation.objects.get().pk]
    assert rows["3B_rank4"]["estimates"]["seconds"]["value"] is None


def test_a_speed_told_at_another_batch_size_says_nothing() -> None:
    call_command(
        "observe",
        "seconds_per_step",
        "4.34it/s",
        set=["model=Llama-3.2-1B-Instruct", "batch_size=1", "packed=false"],
    )
    assert planned()["runs"][0]["estimates"]["seconds"]["value"] is None


def test_a_log_alone_is_incomplete_and_the_plan_says_why_it_was_not_used() -> None:
    call_command("harvest", str(LOG), set=["model=Llama-3.2-1B-Instruct"])
    assert Observation.objects.exists()
    assert not Observation.objects.filter(is_complete=True, metric="seconds_per_step").exists()
    plan = planned()
    assert plan["runs"][0]["estimates"]["seconds"]["value"] is None
    unused = [warning for warning in plan["warnings"] if "was not used" in warning]
    assert any("slurm-1001" in warning for warning in unused)


def test_109_steps_are_not_4000_rows_at_batch_size_1() -> None:
    said = ["model=Llama-3.2-1B-Instruct", "batch_size=1", "packed=false", "rows=4000"]
    call_command("harvest", str(LOG), set=[*said, "gradient_accumulation_steps=1"])
    speed = Observation.objects.get(metric="seconds_per_step")
    assert not speed.is_complete
    assert "109" in speed.incomplete_because and "4,000" in speed.incomplete_because
