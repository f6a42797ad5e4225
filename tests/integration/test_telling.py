"""What people say: figures they know, and what the sources of observations leave open."""

import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from experiments import prior, telling
from experiments.documents import InvalidDocument
from experiments.models import BaseModel, Observation
from experiments.shapes import describe
from tests import logs
from tests.checkpoints import LLAMA_3_2_1B
from tests.factories import NOW

pytestmark = pytest.mark.django_db

KNOWN = {"model": "Llama-3.2-1B-Instruct", "batch_size": 4, "packed": False}
LACKING = {"device": "A100", "software": "torch 2.6.0, torchtune 0.6.1", "cpu_threads": 8}


def tell(value: float | str, *, metric: str = "seconds_per_step", **said: Any) -> Observation:
    return telling.tell(metric=metric, value=value, said=said or KNOWN, by="ana", now=NOW)


def refusal(value: float | str, *, metric: str = "seconds_per_step", **said: Any) -> str:
    with pytest.raises(InvalidDocument) as refused:
        tell(value, metric=metric, **said)
    assert not Observation.objects.exists()
    return str(refused.value)


def harvested(folder: Path, name: str = "slurm-7.out", **changed: Any) -> list[Observation]:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(logs.log(**changed))
    prior.harvest_paths(paths=[folder], said={}, by="ana", now=NOW)
    return list(Observation.objects.filter(source_tree=str(folder)))


def complete(rows: list[Observation], /, *, by: str = "ben", **said: Any) -> int:
    return telling.complete(observations=rows, said=said, by=by, now=NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("4.34it/s", 1 / 4.34),
        ("4.34 it/s", 1 / 4.34),
        ("8.38s/it", 8.38),
        ("0.23s", 0.23),
        (0.23, 0.23),
        ("0.23", 0.23),
    ],
)
def test_a_speed_may_be_told_as_it_is_printed(value: float | str, seconds: float) -> None:
    told = tell(value)
    assert told.value == pytest.approx(seconds)
    assert (told.unit, told.told_by, told.is_complete) == ("s", "ana", True)
    assert told.source_file == "told by ana" and told.said == KNOWN


def test_memory_may_be_told_in_either_unit() -> None:
    assert tell("38 GiB", metric="peak_device_memory_mib").value == 38 * 1024
    assert tell("512MiB", metric="peak_device_memory_mib").value == 512


def test_what_the_lab_knows_of_a_model_need_not_be_said() -> None:
    base = BaseModel.objects.create(
        name="Llama-3.2-1B-Instruct",
        path="/m",
        shape=describe(LLAMA_3_2_1B),
        config=LLAMA_3_2_1B,
        parameter_count=1_235_814_400,
    )
    told = tell("4.34it/s", **KNOWN, rank=4, lora_modules="q_proj,v_proj")
    assert (told.base_model, told.model_shape, told.parameter_count) == (base, base.shape, 1_235_814_400)
    assert told.trainable_parameters == 16 * 4 * (2048 + 2048 + 2048 + 512)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("fast", "is no figure in s"),
        (0, "is no figure in s"),
        (-1.0, "is no figure in s"),
        ("0it/s", "is no figure in s"),
        (float("nan"), "is no figure in s"),
        (float("inf"), "is no figure in s"),
        ("38GiB", "is not in s"),
        ("", "is no figure in s"),
    ],
)
def test_what_is_no_speed_is_refused(value: float | str, why: str) -> None:
    assert why in refusal(value)


def test_a_speed_is_not_memory() -> None:
    assert "is not in MiB" in refusal("4.34it/s", metric="peak_device_memory_mib")


def test_an_unknown_figure_is_refused_with_the_nearest() -> None:
    assert "Did you mean 'seconds_per_step'?" in refusal(1, metric="second_per_step")


def test_an_unknown_condition_is_refused_with_the_nearest() -> None:
    assert "Did you mean 'batch_size'?" in refusal("4.34it/s", **KNOWN, batchsize=4)


def test_a_condition_that_does_not_fit_is_refused() -> None:
    assert "'no' does not fit packed. Say true or false." in refusal("4.34it/s", **{**KNOWN, "packed": "no"})


@pytest.mark.parametrize("without", ["model", "batch_size", "packed"])
def test_a_speed_without_its_conditions_says_nothing(without: str) -> None:
    said = {key: value for key, value in KNOWN.items() if key != without}
    assert f"--set {without}=" in refusal("4.34it/s", **said)


def test_observations_are_completed_one_by_one(tmp_path: Path) -> None:
    rows = harvested(tmp_path / "tree")
    speed = next(row for row in rows if row.metric == "seconds_per_step")
    assert complete([speed], **LACKING) == 1
    speed.refresh_from_db()
    assert speed.is_complete and speed.incomplete_because == ""
    assert (speed.completed_by, speed.said, speed.told_by) == ("ben", LACKING, "")
    assert Observation.objects.filter(is_complete=False).count() == len(rows) - 1


def test_a_part_of_what_is_lacking_may_be_said_and_the_rest_by_somebody_else(tmp_path: Path) -> None:
    rows = harvested(tmp_path / "tree")
    assert complete(rows, device="A100") == len(rows) - 1
    speed = Observation.objects.get(metric="seconds_per_step")
    assert speed.incomplete_because == "It is not known: software, cpu threads."
    assert complete([speed], by="cem", software="torch 2.6.0", cpu_threads=8) == 1
    assert speed.said == {"device": "A100", "software": "torch 2.6.0", "cpu_threads": 8}
    assert speed.completed_by == "cem"


def test_a_whole_tree_is_completed_and_no_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    harvested(one)
    harvested(one, "slurm-8.out", batch_size=8, seconds=0.5)
    harvested(other, batch_size=2, seconds=1.5)
    said = [f"--set={key}={value}" for key, value in LACKING.items()]
    out = StringIO()
    call_command("complete", f"--tree={one}", *said, by="ben", stdout=out)
    assert out.getvalue().startswith("6 of 6 observations are complete.")
    assert not Observation.objects.filter(source_tree=str(other), is_complete=True).exists()


def test_what_was_read_is_not_overwritten_nor_kept_as_said(tmp_path: Path) -> None:
    rows = harvested(tmp_path / "tree")
    complete(rows, **LACKING, batch_size=64)
    speed = Observation.objects.get(metric="seconds_per_step")
    assert speed.batch_size == 4 and speed.said == LACKING


def test_contradictions_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    rows = harvested(tmp_path / "tree", dataset="absent", steps=109)
    before = list(Observation.objects.order_by("id").values())
    with pytest.raises(InvalidDocument, match="109 steps an epoch, where 4,000 rows"):
        complete(rows, **LACKING, packed=False, rows=4000)
    assert list(Observation.objects.order_by("id").values()) == before


def test_the_memory_that_a_device_has_makes_a_bound_of_an_error(tmp_path: Path) -> None:
    (tmp_path / "slurm-7.out").write_bytes(logs.started() + logs.RAN_OUT)
    prior.harvest_paths(paths=[tmp_path], said=LACKING, by="ana", now=NOW)
    bound = Observation.objects.get()
    assert complete([bound], max_steps_per_epoch=3) == 0
    assert complete([bound], device_memory_mib=81559) == 1
    bound.refresh_from_db()
    assert (bound.value, bound.is_bound, bound.is_complete) == (81559.0, True, True)


def test_completing_twice_is_the_same_as_once(tmp_path: Path) -> None:
    rows = harvested(tmp_path / "tree")
    complete(rows, **LACKING)
    before = list(Observation.objects.order_by("id").values("value", "said", "completed_by", "is_complete"))
    complete(list(Observation.objects.all()), by="cem", **LACKING)
    again = list(Observation.objects.order_by("id").values("value", "said", "completed_by", "is_complete"))
    assert again == before


def test_what_was_completed_stays_so_when_its_tree_is_moved_and_harvested_again(tmp_path: Path) -> None:
    complete(harvested(tmp_path / "tree"), **LACKING)
    shutil.move(tmp_path / "tree", tmp_path / "moved")
    again = prior.harvest_paths(paths=[tmp_path / "moved"], said={}, by="ana", now=NOW)
    assert (again.new, again.incomplete) == (0, [])
    assert Observation.objects.get(metric="seconds_per_step").completed_by == "ben"


def test_nothing_to_complete_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No incomplete observation"):
        call_command("complete", tree=str(tmp_path), set=["packed=false"])
    with pytest.raises(CommandError, match="--tree"):
        call_command("complete", set=["packed=false"])


def test_the_observe_command_names_who_told_it() -> None:
    out = StringIO()
    said = [f"{key}={str(value).lower() if key == 'packed' else value}" for key, value in KNOWN.items()]
    call_command("observe", "seconds_per_step", "4.34it/s", set=said, by="ana", stdout=out)
    assert out.getvalue().endswith("told by ana.\n")
    assert Observation.objects.get().model_name == "Llama-3.2-1B-Instruct"
    with pytest.raises(CommandError, match="Did you mean 'packed'"):
        call_command("observe", "seconds_per_step", "4.34it/s", set=[*said, "paked=false"])
