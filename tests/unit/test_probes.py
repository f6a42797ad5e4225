import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from experiments.specs import DataSource, ProbeSpec, ValidationSpec
from scheduler.programs.probe_rows import chosen_rows, probed
from scheduler.programs.torchtune import Torchtune
from tests.unit.jobs import carried, finetune_spec, job_of, record, surroundings, write_finetune, write_model

ROWS = [{"input": f"w{n}", "output": f"W{n}"} for n in range(6)]


def probe(data: DataSource, *indices: int, **fields: Any) -> ProbeSpec:
    return ProbeSpec(finetune=finetune_spec(data=data, **fields), row_indices=indices)


def write(path: Path, format: str) -> DataSource:
    if format == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["input", "output"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif format == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        lines = "\n\n".join(json.dumps(row) for row in ROWS)
        texts = {"json": json.dumps(ROWS), "jsonl": lines, "json_splits": json.dumps({"train": ROWS})}
        path.write_text(texts[format])
    return DataSource(path=str(path), format=format, split="train")  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["json_splits", "json", "jsonl", "csv", "parquet"])
def test_its_rows_are_taken_in_their_order_out_of_every_format(tmp_path: Path, format: str) -> None:
    data = write(tmp_path / "rows", format)
    assert chosen_rows(probe(data, 5, 0, 3)) == [ROWS[5], ROWS[0], ROWS[3]]


@pytest.mark.parametrize("index", [6, -1])
def test_a_row_that_is_not_there_any_more_is_named(tmp_path: Path, index: int) -> None:
    data = write(tmp_path / "rows", "json")
    with pytest.raises(ValueError, match=f"has no row {index}, which the probe wants"):
        chosen_rows(probe(data, 0, index))


def test_it_is_one_epoch_in_order_and_validates_nothing(tmp_path: Path) -> None:
    data = write(tmp_path / "rows", "json_splits")
    validation = ValidationSpec(data=data, rows=6, every_n_steps=1)
    asked = {"recipe": "lora_validating_single_device", "validation": validation, "max_steps_per_epoch": 1}
    model = {"model_path": str(write_model(tmp_path / "model")), "batch_size": 2, "epochs": 3}
    spec = probe(data, 1, 4, 2, 0, **asked, **model)
    job = job_of(tmp_path, carried(spec))
    command = Torchtune().prepare(job, surroundings(tmp_path))
    config = yaml.safe_load(command.files[job.paths.directory / "finetune.yaml"])
    assert (config["epochs"], config["shuffle"], config["max_steps_per_epoch"]) == (1, False, None)
    assert config["dataset"]["data_files"] == str(job.paths.directory / "probe_rows.json")
    assert "dataset_val" not in config
    assert command.argv[4] == "lora_finetune_single_device"
    rows = json.loads(command.files[job.paths.directory / "probe_rows.json"])
    assert rows == [ROWS[1], ROWS[4], ROWS[2], ROWS[0]]
    hashed = json.loads(command.files[job.paths.directory / "environment.json"])["datasets"]
    assert [dataset["path"] for dataset in hashed] == [data.path]


def test_its_steps_are_those_of_its_rows() -> None:
    spec = probe(finetune_spec().data, *range(12), batch_size=2, gradient_accumulation_steps=2)
    assert probed(spec, Path("/rows.json")).steps_per_epoch == 3
    packed = replace(spec, finetune=replace(spec.finetune, packed=True))
    assert probed(packed, Path("/rows.json")).steps_per_epoch is None


def test_a_probe_that_did_not_take_its_steps_failed(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(probe(finetune_spec().data, *range(12), batch_size=4)))
    write_finetune(job, steps=2, epoch=0)
    outcome = Torchtune().verify(job, record())[7].outcome
    assert "2 of 3 steps" in outcome.message
