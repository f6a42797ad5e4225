"""The main job, end to end, on real engines: what ./lab demo promises."""

import json
import subprocess
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from experiments import kept
from experiments.parsers import torchtune
from experiments.specs import FinetuneSpec, spec_from_json
from tests.lab import REPOSITORY, Demo

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

EXPERIMENT = "cap_lora_ranks"
MODELS = ("tiny-llama-s", "tiny-llama-m")
MARGIN = 0.2  # of exact match; the five seeds of docs/benchmarks.md are far above it


def test_the_demo_ends_with_0_and_a_table_of_six_rows(demo: Demo) -> None:
    assert demo.exit_code == 0, demo.output
    rows = demo.lab.summary(EXPERIMENT)
    assert set(rows) == {f"{model}_{kind}" for model in MODELS for kind in ("rank4", "rank64", "base")}
    assert {row["state"] for row in rows.values()} == {"SUCCEEDED"}
    assert all(name in demo.output for name in rows)


def test_every_fine_tuned_row_beats_its_control(demo: Demo) -> None:
    rows = demo.lab.summary(EXPERIMENT)
    for model in MODELS:
        control = rows[f"{model}_base"]
        assert control["type"] == "control"
        for rank in ("rank4", "rank64"):
            tuned = rows[f"{model}_{rank}"]
            assert tuned["type"] == "finetuned"
            assert tuned["metrics"]["exact_match"] >= control["metrics"]["exact_match"] + MARGIN


def test_two_fine_tunes_overlap_and_never_three(demo: Demo) -> None:
    jobs = demo.lab.rows("SELECT started_at, ended_at FROM scheduler_job WHERE title LIKE '%/finetune'")
    spans = [
        (datetime.fromisoformat(job["started_at"]), datetime.fromisoformat(job["ended_at"])) for job in jobs
    ]
    assert len(spans) == 4
    assert any(max(a[0], b[0]) < min(a[1], b[1]) for a, b in combinations(spans, 2))
    for start, _ in spans:
        assert sum(a <= start < b for a, b in spans) <= 2


def test_the_evaluations_of_a_base_model_share_one_job(demo: Demo) -> None:
    rows = demo.lab.summary(EXPERIMENT)
    for model in MODELS:
        jobs = [set(rows[f"{model}_{kind}"]["jobs"]) for kind in ("rank4", "rank64", "base")]
        assert len(set.intersection(*jobs)) == 1


def test_the_loss_falls(demo: Demo) -> None:
    for directory, _ in finetunes(demo):
        losses = [record.loss for record in torchtune.read_metrics(directory / "output")]
        assert len(losses) == 800
        assert sum(losses[-50:]) < 0.5 * sum(losses[:50])


def test_the_weights_after_two_epochs_are_those_that_were_trained(demo: Demo) -> None:
    """torchtune's own merge spoils live weights on CPU: then the adapter would not reproduce the logged loss."""
    directory, spec = finetunes(demo)[0]
    assert spec.epochs == 2
    logged = [record.loss for record in torchtune.read_metrics(directory / "output")][-200:]
    measured = adapter_loss(spec, kept.result_directory(directory, epochs=spec.epochs))
    base = adapter_loss(spec, None)
    assert measured == pytest.approx(sum(logged) / len(logged), rel=0.5, abs=0.03)
    assert measured < 0.2 * base


def test_every_finished_run_was_harvested(demo: Demo) -> None:
    assert demo.lab.rows("SELECT id FROM experiments_run WHERE harvested_at IS NULL") == []
    metrics = {row["metric"] for row in demo.lab.rows("SELECT metric FROM experiments_observation")}
    assert metrics >= {"exact_match", "final_loss", "seconds_per_step", "peak_host_memory_mib", "job_seconds"}


def test_once_it_has_run_it_shows_the_summary_again(demo: Demo) -> None:
    done = demo.lab.run("demo", "--exit", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny-llama-m_rank64" in done.stdout
    assert len(demo.lab.rows("SELECT id FROM experiments_experiment WHERE name = ?", EXPERIMENT)) == 1


def test_the_next_plan_is_estimated_from_what_the_demo_measured(demo: Demo) -> None:
    document = yaml.safe_load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
    file = demo.lab.home / "again.yaml"
    file.write_text(yaml.safe_dump({**document, "name": "again"}))
    rows = {row["name"]: row for row in json.loads(demo.lab.manage("plan", str(file), "--json"))["runs"]}
    for name in (f"{model}_rank{rank}" for model in MODELS for rank in (4, 64)):
        estimates, parts = rows[name]["estimates"], rows[name]["parts"]
        (took,) = demo.lab.rows(
            "SELECT o.value FROM experiments_observation o JOIN experiments_run r ON r.id = o.run_id "
            "WHERE r.name = ? AND o.metric = 'job_seconds'",
            f"{name}/finetune",
        )
        tuning = sum(part["value"] for part_name, part in parts.items() if part_name != "evaluate_seconds")
        assert tuning == pytest.approx(took["value"], rel=0.15)
        assert parts["training_seconds"]["grade"] == "measured"
        assert estimates["peak_memory_mib"]["grade"] != "none"
        assert parts["evaluate_seconds"]["value"] > 0
        sources = ", ".join(map(str, parts["training_seconds"]["observations"]))
        metrics = demo.lab.rows(f"SELECT metric FROM experiments_observation WHERE id IN ({sources})")
        assert {row["metric"] for row in metrics} == {"seconds_per_step"}


def test_after_it_no_process_of_ours_is_left(demo: Demo) -> None:
    assert demo.lab.processes() == []


def test_nothing_is_written_outside_its_home(demo: Demo) -> None:
    assert demo.written_elsewhere == set()


def finetunes(demo: Demo) -> list[tuple[Path, FinetuneSpec]]:
    rows = demo.lab.rows("SELECT directory, spec FROM experiments_run WHERE kind = 'finetune' ORDER BY id")
    found = []
    for row in rows:
        spec = spec_from_json(json.loads(row["spec"]))
        assert isinstance(spec, FinetuneSpec)
        found.append((Path(row["directory"]), spec))
    return found


def adapter_loss(spec: FinetuneSpec, adapter: Path | None) -> float:
    """By an arithmetic of its own, in the ML environment."""
    script = REPOSITORY / "scheduler/runtimes/torchtune/adapter_loss.py"
    given = ["--adapter", str(adapter)] if adapter else []
    done = subprocess.run(
        [
            *(str(settings.ML_PYTHON), str(script), "--base", spec.model_path, *given),
            *("--data", spec.data.path, "--split", "train", "--system-prompt", spec.data.system_prompt or ""),
        ],
        capture_output=True,
        text=True,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"},
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["loss"])
