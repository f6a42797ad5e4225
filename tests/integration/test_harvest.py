"""Earlier work, harvested: from logs, metrics files and configurations to observations."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from experiments import prior
from experiments.conditions import Metric
from experiments.models import Observation
from experiments.prior import Harvested
from experiments.states import RunState
from tests import logs
from tests.factories import NOW, make_run
from tests.integration.commands import command
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

SAMPLES = Path(__file__).resolve().parents[1] / "data"
ELSE = {  # what no log tells
    "device": "NVIDIA A100 80GB",
    "software": "torch 2.6.0, torchtune 0.6.1",
    "cpu_threads": 8,
}


def harvest(*paths: Path, by: str = "ana", **said: Any) -> Harvested:
    return prior.harvest_paths(paths=paths, said=said, by=by, now=NOW)


def written(folder: Path, name: str, text: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def observed(metric: Metric = Metric.SECONDS_PER_STEP) -> Observation:
    return Observation.objects.get(metric=metric)


def test_each_fact_is_an_observation_with_its_conditions_and_its_source(tmp_path: Path) -> None:
    path = written(tmp_path, "ck-out-1/slurm-7.out", logs.log())
    assert harvest(tmp_path).new == 3
    speed = observed()
    assert speed.value == pytest.approx(0.25, rel=0.02)
    assert (speed.source_file, speed.source_tree) == (str(path), str(tmp_path))
    assert speed.source_line and b"|Loss" in path.read_bytes().split(b"\n")[speed.source_line - 1]
    assert (speed.model_name, speed.model_shape) == (
        "Llama-3.2-1B-Instruct",
        "llama h2048 l16 q32 kv8 i8192 v128256 tied",
    )
    assert (speed.recipe, speed.world_size, speed.lora_modules) == (
        "lora_finetune_single_device",
        1,
        "q_proj,v_proj,mlp",
    )
    assert (speed.steps_per_epoch, speed.epochs, speed.has_step_cap) == (100, 1, False)
    assert observed(Metric.CHECKPOINT_SECONDS).value == 9.81
    after_init = observed(Metric.MEMORY_AFTER_INIT_MIB)
    assert (after_init.value, after_init.unit) == (2.41 * 1024, "MiB")
    assert not Observation.objects.filter(metric=Metric.PEAK_DEVICE_MEMORY_MIB).exists()


def test_what_a_log_does_not_tell_makes_it_incomplete(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    harvested = harvest(tmp_path)
    assert len(harvested.incomplete) == 3 and not observed().is_complete
    assert observed().incomplete_because == "It is not known: the device, software, cpu threads."


def test_packs_are_all_as_long_as_the_longest_sequence(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    harvest(tmp_path)
    speed = observed()
    assert (speed.tokens_per_step, speed.squares_per_step) == (4 * 2 * 512, 4 * 2 * 512**2)
    assert (speed.longest_batch_tokens, speed.longest_sequence) == (4 * 512, 512)


def test_what_is_said_completes_it_and_who_said_so_is_kept(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    assert harvest(tmp_path, **ELSE).incomplete == []
    speed = observed()
    assert speed.is_complete and not speed.told_by
    assert (speed.completed_by, speed.said, speed.device_kind) == ("ana", ELSE, ELSE["device"])


def test_twice_is_the_same_as_once(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log() + logs.log(seconds=0.5))
    first, second = harvest(tmp_path), harvest(tmp_path)
    assert (first.new, first.known, second.new, second.known) == (6, 0, 0, 6)
    assert Observation.objects.count() == 6


def test_a_tree_that_was_moved_or_a_log_that_was_renamed_adds_nothing(tmp_path: Path) -> None:
    written(tmp_path, "here/slurm-7.out", logs.log())
    harvest(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    shutil.copy(tmp_path / "there/slurm-7.out", tmp_path / "there/copy.log")
    assert harvest(tmp_path / "there").new == 0


def test_a_log_that_has_gone_on_is_the_same_run(tmp_path: Path) -> None:
    written(tmp_path, "train.log", logs.started() + logs.bars(50, 200, 0.25))
    harvest(tmp_path, **ELSE)
    slower = b"".join(logs.bar(done, 200, int(12.5 + (done - 50) * 0.5)) for done in range(51, 201))
    written(tmp_path, "train.log", logs.started() + logs.bars(50, 200, 0.25) + slower)
    assert harvest(tmp_path).known == 1
    assert observed().value == pytest.approx(0.44, rel=0.02)


def test_runs_that_differ_in_their_rank_alone_are_two(tmp_path: Path) -> None:
    for rank in (4, 64):
        model = {**logs.CONFIGURATION["model"], "lora_rank": rank}
        written(tmp_path, f"rank{rank}/train.log", logs.log(model=model))
    harvest(tmp_path)
    ranks = Observation.objects.filter(metric=Metric.MEMORY_AFTER_INIT_MIB).values_list(
        "lora_rank", flat=True
    )
    assert sorted(ranks) == [4, 64]


def test_starts_in_one_file_keep_their_own_conditions(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log(batch_size=4) + logs.log(batch_size=8, seconds=0.5))
    harvest(tmp_path)
    speeds = Observation.objects.filter(metric=Metric.SECONDS_PER_STEP).order_by("id")
    assert [row.batch_size for row in speeds] == [4, 8]
    assert [row.value for row in speeds] == pytest.approx([0.25, 0.5], rel=0.02)


def test_a_second_harvest_completes_what_was_incomplete(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    harvest(tmp_path)
    again = harvest(tmp_path, by="ben", **ELSE)
    assert (again.new, again.completed) == (0, 3)
    assert observed().is_complete and observed().completed_by == "ben"


def test_a_configuration_that_turns_up_later_is_taken(tmp_path: Path) -> None:
    bare = logs.log(tokenizer="absent", optimizer="absent")
    written(tmp_path, "run/slurm-7.out", bare)
    harvest(tmp_path, **ELSE)
    assert "optimizer" in observed().incomplete_because
    written(tmp_path, "run/torchtune_config.yaml", json.dumps(logs.CONFIGURATION))
    assert harvest(tmp_path).completed == 1
    assert observed().is_complete and observed().said == ELSE


@pytest.mark.parametrize("place", ["run/torchtune_config.yaml", "run/output/finetune.yaml", "finetune.yaml"])
def test_a_configuration_beside_or_above_a_log_is_read(tmp_path: Path, place: str) -> None:
    written(tmp_path, "run/slurm-7.out", logs.bars(100, 100, 0.25))
    written(tmp_path, place, json.dumps(logs.CONFIGURATION))
    harvest(tmp_path)
    assert (observed().batch_size, observed().lora_rank, observed().packed) == (4, 64, True)
    assert observed().recipe == ""  # nothing in it tells the single-device recipe from the distributed one


def test_a_configuration_that_differs_from_the_log_is_of_another_run(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log(tokenizer="absent", batch_size=4))
    written(tmp_path, "finetune.yaml", json.dumps({**logs.CONFIGURATION, "batch_size": 16}))
    (problem,) = harvest(tmp_path).problems
    assert "finetune.yaml is not used" in problem and "another batch_size" in problem
    assert (observed().batch_size, observed().max_seq_len) == (4, None)


def test_the_source_stands_against_what_is_said(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    harvested = harvest(tmp_path, rank=8, **ELSE)
    assert observed().lora_rank == 64 and "rank" not in observed().said
    assert any("rank is 64 there, and not 8" in problem for problem in harvested.problems)


def test_what_contradicts_a_log_is_not_taken_and_can_be_said_right(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log(dataset="absent", steps=109))
    said = {**ELSE, "packed": False, "tokens_per_step": 400.0}
    harvest(tmp_path, rows=4000, **said)
    assert "109 steps an epoch, where 4,000 rows" in observed().incomplete_because
    assert "was not taken" in observed().incomplete_because and "rows=4000" in observed().incomplete_because
    assert (observed().rows, observed().packed, observed().said) == (None, None, {})
    harvest(tmp_path, rows=872, **said)
    assert observed().is_complete and observed().rows == 872


def test_the_rows_that_a_log_counts_are_compared_with_its_steps(tmp_path: Path) -> None:
    unpacked = {"_component_": "torchtune.datasets.instruct_dataset"}
    counted = b"\rGenerating train split: 4000 examples [00:00]\n"
    text = logs.started(dataset=unpacked) + counted + logs.bars(109, 109, 0.25)
    written(tmp_path, "slurm-7.out", text)
    harvest(tmp_path)
    assert "109 steps an epoch, where 4,000 rows at batch size 4 with 2 acc" in observed().incomplete_because


def test_the_lengths_follow_from_a_dataset_that_is_said(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [REPOSITORY / "experiments/demo/models"], [tmp_path]
    rows = [{"input": "word", "output": "WORD"}] * 80
    written(tmp_path, "words.json", json.dumps({"train": rows, "test": rows[:8]}))
    unpacked = {"_component_": "torchtune.datasets.instruct_dataset", "packed": False}
    model = {"checkpointer": {"checkpoint_dir": "/old/tiny-llama-s"}, "dataset": unpacked}
    written(tmp_path, "slurm-7.out", logs.log(steps=10, seconds=2.0, **model))
    harvested = harvest(tmp_path, dataset="words.json", **ELSE)
    assert harvested.problems == [] and observed().is_complete
    assert observed().rows == 80 and observed().tokens_per_step
    assert observed().said == {**ELSE, "dataset": "words"}


def test_a_dataset_does_not_help_where_the_model_is_not_here(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path], [tmp_path]
    written(tmp_path, "words.json", json.dumps({"train": [{"input": "a", "output": "A"}]}))
    unpacked = {"_component_": "torchtune.datasets.instruct_dataset"}
    written(tmp_path, "slurm-7.out", logs.log(dataset=unpacked))
    harvested = harvest(tmp_path, dataset="words.json")
    assert any("Llama-3.2-1B-Instruct" in problem for problem in harvested.problems)
    assert "dataset" not in observed().said


def test_without_memory_left_there_is_a_bound_and_no_peak(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.started() + logs.bars(10, 100, 0.5) + b"\n" + logs.RAN_OUT)
    harvest(tmp_path, **ELSE)
    bound = observed(Metric.PEAK_DEVICE_MEMORY_MIB)
    assert bound.is_bound and not bound.is_complete
    assert bound.incomplete_because == "It is not known: how much memory the device has."
    harvest(tmp_path, device_memory_mib=81559)
    bound = observed(Metric.PEAK_DEVICE_MEMORY_MIB)
    assert (bound.is_bound, bound.is_complete, bound.value) == (True, True, 81559.0)


def test_an_error_that_tells_the_devices_memory_needs_nobody_to_say_it(tmp_path: Path) -> None:
    ran_out = logs.RAN_OUT.replace(b".\n", b". GPU 0 has a total capacity of 79.00 GiB of which ...\n")
    written(tmp_path, "slurm-7.out", logs.started() + logs.bars(10, 100, 0.5) + b"\n" + ran_out)
    harvest(tmp_path, **ELSE)
    bound = observed(Metric.PEAK_DEVICE_MEMORY_MIB)
    assert (bound.is_bound, bound.is_complete, bound.value) == (True, True, 79 * 1024)


def test_the_peak_of_a_metrics_file_is_the_highest_of_what_was_reserved(tmp_path: Path) -> None:
    path = written(tmp_path, "run/logs/log_1795294253.txt", logs.metrics(10.0, 12.5, 11.0))
    written(tmp_path, "run/torchtune_config.yaml", json.dumps(logs.CONFIGURATION))
    harvest(tmp_path)
    peak = observed(Metric.PEAK_DEVICE_MEMORY_MIB)
    assert (peak.value, peak.source_file, peak.source_line) == (12.5 * 1024, str(path), 2)
    assert not peak.is_bound and peak.batch_size == 4
    assert harvest(tmp_path).new == 0


def test_the_peak_of_a_run_that_did_not_come_to_its_end_is_a_bound(tmp_path: Path) -> None:
    written(tmp_path, "run/logs/log_1795294253.txt", logs.metrics(10.0, 12.5, 11.0))
    names = b"Writing logs to /scratch/run/logs/log_1795294253.txt\n"
    written(
        tmp_path, "slurm-7.out", logs.started() + names + logs.bars(3, 100, 2.0) + b"\n" + logs.TIME_LIMIT
    )
    harvest(tmp_path)
    assert observed(Metric.PEAK_DEVICE_MEMORY_MIB).is_bound


def test_a_real_metrics_file_of_a_run_on_cpu_tells_no_memory(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "torchtune/disklogger_one_epoch.txt", tmp_path / "log_1795294253.txt")
    assert not harvest(tmp_path).found_anything


def test_the_speed_of_a_run_with_validation_in_it_is_not_used(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log(run_val_every_n_steps=25))
    harvested = harvest(tmp_path)
    assert not Observation.objects.filter(metric=Metric.SECONDS_PER_STEP).exists()
    assert any("validation is in the time" in problem for problem in harvested.problems)


def test_links_are_not_followed_and_pipes_are_not_waited_for(tmp_path: Path) -> None:
    written(tmp_path, "elsewhere/slurm-7.out", logs.log())
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "linked").symlink_to(tmp_path / "elsewhere")
    (tree / "slurm-8.out").symlink_to(tmp_path / "elsewhere/slurm-7.out")
    os.mkfifo(tree / "slurm-9.out")
    harvested = harvest(tree)
    assert not harvested.found_anything
    assert harvested.problems == [f"{tree}/slurm-9.out cannot be read: it is no regular file."]


def test_the_labs_own_runs_are_left_out(tmp_path: Path) -> None:
    written(tmp_path, "job-1/output.log", logs.log())
    make_run(state=RunState.SUCCEEDED, directory=str(tmp_path / "job-1"))
    assert not harvest(tmp_path).found_anything
    harvested = harvest(tmp_path / "job-1/output.log")
    assert not harvested.found_anything and "a run of this lab" in harvested.problems[0]


def shell(*paths: Path, **options: Any) -> str:
    return command("harvest", *map(str, paths), **options)


def test_the_command_says_what_it_found_and_what_is_lacking(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    text = shell(tmp_path, set=["device=A100 80GB", "packed=true"])
    assert text.startswith("3 new observations, 0 known before, 0 completed, 1 incomplete.")
    assert "It is not known: software, cpu threads." in text


def test_the_command_as_json(tmp_path: Path) -> None:
    written(tmp_path, "slurm-7.out", logs.log())
    found = json.loads(shell(tmp_path, json=True))
    assert (found["new"], found["known"], len(found["incomplete"])) == (3, 0, 3)
    assert found["problems"] == [] and found["runs"] == []


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, "notes.txt", "nothing")
    with pytest.raises(CommandError, match="Nothing that torchtune"):
        shell(tmp_path, tmp_path / "missing")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("devise=A100", "Did you mean 'device'?"),
        ("datset=words", "Did you mean 'dataset'?"),
        ("packed=perhaps", "Say true or false"),
        ("rows=many", "Say a number"),
        ("precision=a-very-long-word", "at most 10 characters"),
        ("batch_size", "is not KEY=VALUE"),
        ("dataset=nowhere.json", "nowhere"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_kept(
    tmp_path: Path, settings: Any, setting: str, sentence: str
) -> None:
    settings.DATASET_ROOTS = [tmp_path]
    written(tmp_path, "slurm-7.out", logs.log())
    with pytest.raises(CommandError, match=sentence):
        shell(tmp_path, set=[setting])
    assert not Observation.objects.exists()
