import json
from pathlib import Path
from typing import Any

import pytest

from experiments import kept
from experiments.parsers.torchtune import ValidationRecord
from experiments.specs import ProbeSpec
from scheduler.programs import checkpoints
from scheduler.programs.base import PlacedJob, Verdict
from scheduler.programs.torchtune import Torchtune
from tests.unit.jobs import carried, finetune_spec, job_of, record, write_finetune

EPOCHS = 3


@pytest.mark.parametrize(
    ("keep", "losses", "epoch"),
    [
        ("all", {0: 1.0, 1: 2.0, 2: 3.0}, 2),
        ("last", {0: 1.0, 1: 2.0, 2: 3.0}, 2),
        ("adapter", {0: 1.0}, 2),
        ("best", {0: 3.0, 1: 1.0, 2: 2.0}, 1),
        ("best", {0: 1.0, 1: 1.0}, 0),
        ("best", {}, 2),
        ("best", {9: 0.1}, 2),
    ],
)
def test_the_epoch_that_stays(keep: Any, losses: dict[int, float], epoch: int) -> None:
    assert checkpoints.choose_epoch(keep=keep, epochs=EPOCHS, val_losses=losses) == epoch


def test_the_loss_at_an_epochs_end_counts_and_none_in_between() -> None:
    records = [ValidationRecord(step, step / 10, 0) for step in (2, 4, 6, 8)]
    assert checkpoints.losses_at_ends(records, 4) == {0: 0.4, 1: 0.8}
    assert checkpoints.losses_at_ends(records, None) == {}


def finished(folder: Path, **fields: Any) -> PlacedJob:
    """A fine-tune of three epochs of two steps, whose second epoch validated best."""
    job = job_of(folder, carried(finetune_spec(epochs=EPOCHS, **fields)))
    for epoch in range(EPOCHS):
        write_finetune(job, steps=6, epoch=epoch)
        (job.paths.output / f"epoch_{epoch}" / "model.safetensors").write_bytes(b"0" * 1024)
    (job.paths.output / "recipe_state").mkdir()
    with (job.paths.output / "logs" / "log_1.txt").open("a") as log:
        log.writelines(f"Step {step} | val_loss:{loss} \n" for step, loss in ((2, 2.0), (4, 1.0), (6, 1.5)))
    return job


def judged(job: PlacedJob) -> Verdict:
    return Torchtune().verify(job, record())[7]


def disk_mib(verdict: Verdict) -> float:
    (measured,) = [m.value for m in verdict.measurements if m.metric == "checkpoint_disk_mib"]
    return measured


def folders(job: PlacedJob) -> set[str]:
    return {path.name for path in job.paths.output.iterdir() if path.is_dir()} - {"logs"}


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", {"epoch_0", "epoch_1", "epoch_2", "recipe_state"}),
        ("last", {"epoch_2"}),
        ("best", {"epoch_1"}),
        ("adapter", {"epoch_2"}),
    ],
)
def test_what_is_not_kept_is_removed_once_and_stays_so(tmp_path: Path, keep: Any, left: set[str]) -> None:
    job = finished(tmp_path, keep=keep)
    before = disk_mib(judged(job))
    assert folders(job) == left
    again = judged(job)
    assert again.outcome.succeeded
    assert disk_mib(again) == before
    assert folders(job) == left


def test_the_evaluation_looks_at_the_epoch_that_was_kept(tmp_path: Path) -> None:
    job = finished(tmp_path, keep="best")
    judged(job)
    assert kept.result_directory(job.paths.directory, epochs=EPOCHS).name == "epoch_1"


def test_of_an_adapter_nothing_but_itself_stays(tmp_path: Path) -> None:
    job = finished(tmp_path, keep="adapter")
    judged(job)
    left = {path.name for path in (job.paths.output / "epoch_2").iterdir()}
    assert left == {"adapter_config.json", "adapter_model.safetensors"}


def test_what_a_checkpoint_took_is_measured_before_it_is_pruned(tmp_path: Path) -> None:
    assert disk_mib(judged(finished(tmp_path, keep="adapter"))) > 1024 / 2**20


def test_a_failed_fine_tune_keeps_everything(tmp_path: Path) -> None:
    job = finished(tmp_path, keep="last", steps_per_epoch=9)
    assert not judged(job).outcome.succeeded
    assert folders(job) == {"epoch_0", "epoch_1", "epoch_2", "recipe_state"}


def test_a_link_of_a_job_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    job = finished(tmp_path, keep="last")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    (job.paths.output / "epoch_7").symlink_to(precious)
    (job.paths.output / "epoch_0" / "inner").symlink_to(precious)
    judged(job)
    assert folders(job) == {"epoch_2"}
    assert (precious / "thesis.tex").is_file()


def test_nothing_is_removed_through_an_output_folder_that_is_a_link(tmp_path: Path) -> None:
    job = finished(tmp_path, keep="last")
    elsewhere = tmp_path / "elsewhere"
    job.paths.output.rename(elsewhere)
    job.paths.output.symlink_to(elsewhere)
    with pytest.raises(OSError):
        judged(job)
    assert (elsewhere / "epoch_0").is_dir()


@pytest.mark.parametrize("text", ["", "[]", '{"epoch": 7, "checkpoint_mib": 1}', '{"epoch": "x"}'])
def test_a_note_that_makes_no_sense_is_not_believed(tmp_path: Path, text: str) -> None:
    job = finished(tmp_path, keep="best")
    (job.paths.output / "kept.json").write_text(text)
    assert judged(job).outcome.succeeded
    assert json.loads((job.paths.output / "kept.json").read_text())["epoch"] == 1


def test_of_a_probe_nothing_stays(tmp_path: Path) -> None:
    spec = ProbeSpec(finetune=finetune_spec(batch_size=2), row_indices=tuple(range(6)))
    job = job_of(tmp_path, carried(spec))
    write_finetune(job, steps=3, epoch=0)
    for _ in range(2):
        found = judged(job)
        assert found.outcome.succeeded
        assert "final_loss" not in {m.metric for m in found.measurements}
        assert folders(job) == set()
