"""Fine-tunes, probes and their evaluations on real engines, each as its program prepares it and judges it."""

import csv
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from django.conf import settings

from experiments.conditions import Metric
from experiments.parsers import torchtune as parser
from experiments.specs import DataSource, EngineSettings, FinetuneSpec, ProbeSpec, ValidationSpec
from scheduler.programs.base import PlacedJob
from scheduler.programs.torchtune import RUNTIME
from tests.engine import TINY, repeat, run_job, words
from tests.lab import REPOSITORY
from tests.unit.jobs import evaluate_spec, finetune_spec

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ROWS = 48
CLOSE = 1e-4  # of a loss: what one machine's arithmetic may differ by between two runs


OWN_RECIPE = f"""
import sys
from torchtune import config
sys.path.append({str(RUNTIME)!r})
from validation import built_in, run

@config.parse
def main(cfg):
    print("told", cfg.own.word)
    run("mine", built_in("lora_finetune_single_device").LoRAFinetuneRecipeSingleDevice, cfg)

main()
"""


def tiny(data: DataSource, **fields: Any) -> FinetuneSpec:
    sizes = {"rows": ROWS, "batch_size": 4, "steps_per_epoch": 12, "lora_rank": 4, "lora_alpha": 8}
    return finetune_spec(**{"model_path": str(TINY), "data": data, **sizes, **fields})


def losses(job: PlacedJob, folder: str = "output") -> list[float]:
    return [record.loss for record in parser.read_metrics(job.paths.directory / folder)]


def test_what_torchtune_knows_is_what_the_installed_one_prints() -> None:
    printed = subprocess.run(
        [settings.ML_PYTHON, str(RUNTIME / "describe.py")], check=True, capture_output=True, text=True
    ).stdout
    committed = REPOSITORY / "experiments" / "recipes" / "torchtune_0_6_1.json"
    assert json.loads(printed) == json.loads(committed.read_text())


def test_a_run_is_repeated_without_labmgr_and_takes_the_same_steps(tmp_path: Path) -> None:
    job, verdict = run_job(tmp_path, tiny(words(tmp_path)))
    assert verdict.outcome.succeeded, verdict.outcome.message
    repeat(job)
    assert len(losses(job)) == 24
    assert losses(job, "repeat") == pytest.approx(losses(job), abs=CLOSE)
    assert (job.paths.directory / "repeat" / "epoch_1" / "adapter_model.safetensors").is_file()


def validating(data: DataSource, **fields: Any) -> FinetuneSpec:
    """With dropout, which draws on the random state that validation must not move."""
    asked = ValidationSpec(data=replace(data, split="validation"), rows=10, every_n_steps=5)
    return tiny(
        data,
        recipe="lora_validating_single_device",
        validation=replace(asked, **fields),
        keep="best",
        overrides={"model.lora_dropout": 0.2},
    )


def validations(job: PlacedJob) -> list[parser.ValidationRecord]:
    metrics = parser.read(job.paths.output)
    assert metrics is not None
    return list(metrics.validations)


def test_validation_is_logged_and_does_not_disturb_the_training(tmp_path: Path) -> None:
    spec = validating(words(tmp_path))
    plain, _ = run_job(
        tmp_path / "plain", replace(spec, recipe="lora_finetune_single_device", validation=None)
    )
    job, verdict = run_job(tmp_path / "all", spec)
    first, _ = run_job(tmp_path / "first", validating(words(tmp_path), max_batches=1))
    assert verdict.outcome.succeeded, verdict.outcome.message
    assert losses(job) == losses(plain)
    assert [record.step for record in validations(job)] == [5, 10, 12, 15, 20, 24]
    assert Metric.VALIDATION_SECONDS in {measured.metric for measured in verdict.measurements}
    assert sorted(path.name for path in job.paths.output.glob("epoch_*")) == ["epoch_1"]
    assert validations(first)[0].val_loss != validations(job)[0].val_loss


def test_a_full_fine_tune_is_validated_and_its_weights_are_evaluated(tmp_path: Path) -> None:
    data = words(tmp_path)
    asked = ValidationSpec(data=replace(data, split="validation"), rows=10, every_n_steps=12)
    spec = tiny(data, method="full", recipe="full_validating_single_device", validation=asked, keep="last")
    job, verdict = run_job(tmp_path / "finetune", spec)
    assert verdict.outcome.succeeded, verdict.outcome.message
    assert [path.name for path in job.paths.output.glob("epoch_*")] == ["epoch_1"]
    evaluation = evaluate_spec(
        model_path=str(TINY),
        data=replace(data, split="test"),
        max_tokens=8,
        engine=EngineSettings(max_model_len=128),
    )
    evaluated, verdict = run_job(
        tmp_path / "evaluation", evaluation, builds_on_spec=spec, builds_on_directory=job.paths.directory
    )
    assert verdict.outcome.succeeded, verdict.outcome.message
    request = json.loads((evaluated.paths.directory / "request.json").read_text())
    assert request["model_path"] == str(job.paths.output / "epoch_1")
    measured = {m.metric for m in verdict.measurements}
    assert {
        Metric.ENGINE_STARTUP_SECONDS,
        Metric.SECONDS_PER_PREDICTION,
        Metric.PEAK_HOST_MEMORY_MIB,
    } <= measured
    repeat(evaluated)
    assert predictions(evaluated.paths.directory / "repeat" / "7") == predictions(evaluated.paths.result(7))


def predictions(folder: Path) -> list[str]:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line)["prediction"] for line in lines]


def test_a_probe_takes_its_steps_on_its_rows_in_their_order(tmp_path: Path) -> None:
    data = words(tmp_path)
    spec = ProbeSpec(finetune=tiny(data), row_indices=tuple(range(20, 44)))
    job, verdict = run_job(tmp_path, spec)
    assert verdict.outcome.succeeded, verdict.outcome.message
    written = json.loads((job.paths.directory / "probe_rows.json").read_text())
    assert written == json.loads(Path(data.path).read_text())["train"][20:44]
    assert len(losses(job)) == 6
    measured = {m.metric for m in verdict.measurements}
    assert {Metric.SECONDS_PER_STEP, Metric.STARTUP_SECONDS, Metric.PEAK_DEVICE_MEMORY_MIB} <= measured
    assert Metric.FINAL_LOSS not in measured
    assert list(job.paths.output.glob("epoch_*")) == []


def test_a_labs_own_recipe_is_run_as_a_file_and_told_what_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "my_recipe.py").write_text(OWN_RECIPE)
    own = {"recipe": "my_recipe.py", "recipe_file": str(tmp_path / "my_recipe.py")}
    spec = tiny(words(tmp_path), **own, overrides={"own.word": "hello"})
    job, verdict = run_job(tmp_path / "run", spec)
    assert verdict.outcome.succeeded, verdict.outcome.message
    assert "told hello" in job.paths.log.read_text()


TEXTS = [*("12", "null", "NA", "007", "1.50", "nan", "true", ""), *(f"word{n}" for n in range(8))]
SAID = [{"input": text, "output": text.upper()} for text in TEXTS]  # some of it no text to a reader of CSV


@pytest.fixture(scope="module")
def from_splits(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("splits")
    file = folder / "splits.json"
    file.write_text(json.dumps({"train": SAID}))
    data = DataSource(path=str(file), format="json_splits", split="train", system_prompt="Capitalize.")
    return trained_on(folder / "run", data)


def trained_on(folder: Path, data: DataSource) -> list[float]:
    spec = tiny(data, rows=len(SAID), steps_per_epoch=4, epochs=1)
    job, verdict = run_job(folder, spec)
    assert verdict.outcome.succeeded, verdict.outcome.message
    return losses(job)


def _write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_json(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows))


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["input", "output"])
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    said = [("system", "Capitalize."), ("user", row["input"]), ("assistant", row["output"])]
    return {"messages": [{"role": role, "content": content} for role, content in said]}


@pytest.mark.parametrize(
    ("format", "write", "is_chat"),
    [
        ("json", _write_json, False),
        ("jsonl", _write_jsonl, False),
        ("csv", _write_csv, False),
        ("parquet", _write_parquet, False),
        ("jsonl", _write_jsonl, True),
        ("parquet", _write_parquet, True),
    ],
)
def test_every_format_trains_on_the_same_tokens(
    tmp_path: Path, from_splits: list[float], format: Any, write: Any, is_chat: bool
) -> None:
    file = tmp_path / f"rows.{format}"
    write(file, [_chat(row) for row in SAID] if is_chat else SAID)
    instruct = DataSource(path=str(file), format=format, split="train", system_prompt="Capitalize.")
    chat = replace(instruct, messages_column="messages", system_prompt=None)
    assert trained_on(tmp_path / "run", chat if is_chat else instruct) == from_splits
