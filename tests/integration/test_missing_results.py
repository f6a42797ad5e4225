"""What succeeded and is not there any more, by what its own program looks for."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments import kept
from experiments.models import Cell, Experiment, Run
from experiments.parsers.torchtune import TAKEN_OVER
from experiments.rerunning import RunRootAway, Which
from experiments.specs import CommandSpec, spec_to_json
from experiments.states import RunKind, RunState
from scheduler import joining, reruns
from scheduler.models import ControlPlane
from scheduler.paths import JobPaths
from scheduler.programs import checkpoints
from scheduler.programs.base import PlacedJob
from tests.factories import NOW, make_cell, make_experiment, make_run
from tests.unit.jobs import evaluate_spec, finetune_spec, write_finetune, write_result

pytestmark = pytest.mark.django_db


@pytest.fixture
def cell() -> Cell:
    return make_cell(experiment=make_experiment(approved=True))


def command(*files: str) -> dict[str, Any]:
    return spec_to_json(CommandSpec(argv=("true",), expected_files=files))


def job_of(run: Run) -> PlacedJob:
    """The job that the run ran in, as its program sees it."""
    paths = JobPaths(Path(run.directory), Path(run.directory) / "control")
    paths.directory.mkdir(parents=True, exist_ok=True)
    return PlacedJob(job_id=1, title=run.name, paths=paths, runs=(), devices=(), cpu_threads=1)


@pytest.fixture
def whole(cell: Cell, tmp_path: Path) -> tuple[Run, Run]:
    """A fine-tune and an evaluation whose results are all there."""
    spec, scored = finetune_spec(), evaluate_spec(lora_rank=64)
    done = {"cell": cell, "state": RunState.SUCCEEDED}
    finetune = make_run(
        **done, kind=RunKind.FINETUNE, spec=spec_to_json(spec), directory=str(tmp_path / "finetune")
    )
    evaluate = make_run(
        **done,
        kind=RunKind.EVALUATE,
        spec=spec_to_json(scored),
        directory=str(tmp_path / "evaluate"),
        depends_on=finetune,
    )
    write_finetune(job_of(finetune), steps=4)
    write_result(job_of(evaluate), evaluate.pk, predictions=3)
    return finetune, evaluate


def last(run: Run) -> Run:
    return Run.objects.get(cell=run.cell, name=run.name)


def missing(experiment: Experiment) -> dict[str, str]:
    found = reruns.wanted(experiment=experiment, which=Which.MISSING, user=None, now=NOW)
    return {want.name: want.why for want in found}


def test_nothing_is_missing_of_what_is_whole(whole: tuple[Run, Run]) -> None:
    make_run(cell=whole[0].cell, state=RunState.SUCCEEDED)  # a simulated one, which has no folder
    assert missing(whole[0].cell.experiment) == {}


def test_only_what_is_missing_is_run_again(whole: tuple[Run, Run]) -> None:
    finetune, evaluate = whole
    (Path(finetune.directory) / "output/epoch_1/adapter_model.safetensors").unlink()
    told = missing(finetune.cell.experiment)
    assert list(told) == [finetune.name]
    assert "lacks adapter_model.safetensors" in told[finetune.name]
    reruns.rerun(experiment=finetune.cell.experiment, which=Which.MISSING, user=None, now=NOW)
    assert [last(run).attempt for run in (finetune, evaluate)] == [2, 1]


def test_a_folder_that_is_gone_is_run_again_with_what_is_missing_of_what_builds_on_it(
    whole: tuple[Run, Run],
) -> None:
    finetune, evaluate = whole
    shutil.rmtree(finetune.directory)
    (Path(evaluate.directory) / f"results/{evaluate.pk}/predictions.jsonl").write_text("{}\n")
    told = missing(finetune.cell.experiment)
    assert told == {
        finetune.name: f"{finetune.directory} is not there.",
        evaluate.name: "1 of 3 predictions were written.",
    }
    reruns.rerun(experiment=finetune.cell.experiment, which=Which.MISSING, user=None, now=NOW)
    assert last(evaluate).depends_on == last(finetune)
    assert last(evaluate).ready_at is None


def test_a_folder_that_cannot_be_read_is_told_of_and_the_others_are_looked_at(whole: tuple[Run, Run]) -> None:
    finetune, evaluate = whole
    (Path(finetune.directory) / "output/logs" / TAKEN_OVER).mkdir()
    shutil.rmtree(evaluate.directory)
    told = missing(finetune.cell.experiment)
    assert told[finetune.name].startswith("what it left could not be read: IsADirectoryError")
    assert told[evaluate.name].endswith("is not there.")


def test_looking_for_what_is_missing_changes_nothing(whole: tuple[Run, Run]) -> None:
    output = Path(whole[0].directory) / "output"
    (output / "epoch_0").mkdir()
    keep = spec_to_json(finetune_spec(keep="last"))
    Run.objects.filter(pk=whole[0].pk).update(spec=keep)
    before = sorted(output.rglob("*"))
    assert missing(whole[0].cell.experiment) == {}
    assert sorted(output.rglob("*")) == before


def test_a_checkpoint_that_was_pruned_on_purpose_is_not_missing(whole: tuple[Run, Run]) -> None:
    directory = Path(whole[0].directory)
    kept.write(directory, epoch=1)
    checkpoints.prune(directory, keep="adapter", kept_epoch=1)
    assert missing(whole[0].cell.experiment) == {}


def test_a_command_is_missing_without_its_folder_or_the_files_that_it_was_to_write(
    cell: Cell, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    for name, directory, spec in (
        ("whole", "there", command()),
        ("lacks", "there", command("out.txt")),
        ("gone", "away", command()),
    ):
        make_run(
            cell=cell,
            name=name,
            kind=RunKind.COMMAND,
            spec=spec,
            state=RunState.SUCCEEDED,
            directory=str(tmp_path / directory),
        )
    assert missing(cell.experiment) == {
        "lacks": f"{tmp_path / 'there'} lacks out.txt.",
        "gone": f"{tmp_path / 'away'} is not there.",
    }


def test_with_another_folder_in_place_of_the_run_root_nothing_is_called_missing(
    whole: tuple[Run, Run], tmp_path: Path, settings: Any
) -> None:
    settings.RUN_ROOT = tmp_path / "runs"
    ControlPlane.objects.get_or_create(pk=1)
    assert joining.mark_run_root()
    assert missing(whole[0].cell.experiment) == {}
    (settings.RUN_ROOT / joining.MARK).unlink()
    with pytest.raises(RunRootAway, match="mount it"):
        missing(whole[0].cell.experiment)
