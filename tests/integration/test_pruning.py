"""Making room in the run root."""

from pathlib import Path

import pytest
from django.core.management import call_command

from experiments import kept
from experiments.models import Run
from experiments.specs import DataSource, FinetuneSpec, spec_to_json
from experiments.states import RunState
from scheduler import pruning
from tests.factories import make_cell, make_experiment, make_run

pytestmark = pytest.mark.django_db

SPEC = FinetuneSpec(
    model_name="m",
    model_path="/m",
    data=DataSource(path="/d", format="json", split="train"),
    rows=10,
    epochs=3,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    cell = make_cell(experiment=make_experiment(approved=True))
    for epoch in range(3):
        folder = tmp_path / "output" / f"epoch_{epoch}"
        folder.mkdir(parents=True)
        for name in (*kept.ADAPTER_FILES, "tokenizer.json"):
            (folder / name).write_bytes(b"x" * 1024 * 1024)
    kept.write(tmp_path, epoch=1)
    return make_run(
        cell=cell,
        kind="finetune",
        spec=spec_to_json(SPEC),
        state=RunState.SUCCEEDED,
        directory=str(tmp_path),
    )


def test_the_epoch_that_a_run_kept_stays(run: Run) -> None:
    call_command("prune", run.cell.experiment.name)
    assert [path.name for path in (Path(run.directory) / "output").glob("epoch_*")] == ["epoch_1"]


def test_only_the_adapter_stays_where_that_is_asked_for(run: Run) -> None:
    freed_mib = pruning.prune(experiment=run.cell.experiment, keep="adapter")
    left = sorted(path.name for path in (Path(run.directory) / "output/epoch_1").iterdir())
    assert left == sorted(kept.ADAPTER_FILES)
    assert freed_mib == pytest.approx(7)


def test_earlier_attempts_make_room_too(run: Run, tmp_path: Path) -> None:
    again = make_run(cell=run.cell, name=run.name, attempt=2, state=RunState.FAILED)
    Run.every.filter(pk=run.pk).update(superseded_by=again)
    call_command("prune", run.cell.experiment.name)
    assert [path.name for path in (tmp_path / "output").glob("epoch_*")] == ["epoch_1"]


def test_nothing_is_removed_while_a_run_may_read_it(run: Run) -> None:
    make_run(cell=run.cell, state=RunState.RUNNING)
    with pytest.raises(pruning.Busy):
        pruning.prune(experiment=run.cell.experiment, keep="last")
    assert len(list((Path(run.directory) / "output").glob("epoch_*"))) == 3
