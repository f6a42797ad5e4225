"""The traps of torchtune 0.6.1 that the configuration and the verification guard against."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.states import FinishReason
from experiments.torchtune_config import build_config
from scheduler.programs.torchtune import Torchtune
from tests.unit.jobs import (
    LLAMA,
    carried,
    finetune_spec,
    job_of,
    record,
    surroundings,
    write_finetune,
    write_model,
)


def config(**spec: Any) -> dict[str, Any]:
    return build_config(
        spec=finetune_spec(**spec),
        model_config=LLAMA,
        weight_files=["model.safetensors"],
        output_dir=Path("/out"),
        on_gpu=False,
    )


def test_max_steps_per_epoch_is_present_even_as_nothing() -> None:
    assert config()["max_steps_per_epoch"] is None
    assert config(max_steps_per_epoch=3)["max_steps_per_epoch"] == 3


def test_nothing_is_resumed_where_there_is_no_earlier_state() -> None:
    assert config()["resume_from_checkpoint"] is False


def test_every_value_is_written_out_and_nothing_is_interpolated() -> None:
    assert "${" not in json.dumps(config())


def test_the_arguments_of_the_model_agree_with_its_config_json() -> None:
    model = config()["model"]
    assert (model["embed_dim"], model["num_layers"], model["vocab_size"]) == (128, 2, 320)
    assert (model["num_heads"], model["num_kv_heads"], model["intermediate_dim"]) == (2, 2, 384)
    assert (model["rope_base"], model["tie_word_embeddings"]) == (500_000, True)


def test_only_a_file_of_several_splits_has_its_split_picked() -> None:
    data = finetune_spec().data
    assert config()["dataset"]["field"] == "train"
    lines = type(data)(path="/data/words.jsonl", format="jsonl", split="train")
    assert "field" not in config(data=lines)["dataset"]


def test_the_weights_of_an_index_are_all_named_once(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    shards = {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    job = job_of(tmp_path, carried(finetune_spec(model_path=str(model))))
    text = Torchtune().prepare(job, surroundings(tmp_path)).files[job.paths.directory / "finetune.yaml"]
    assert text.index("- model-1.safetensors") < text.index("- model-2.safetensors")
    assert text.count("model-2.safetensors") == 1


@pytest.mark.parametrize("missing", ["adapter_model.safetensors", "adapter_config.json"])
def test_exit_code_0_without_a_file_of_the_adapter_is_no_success(tmp_path: Path, missing: str) -> None:
    job = job_of(tmp_path, carried(finetune_spec()))
    write_finetune(job, steps=4)
    (job.paths.output / "epoch_1" / missing).unlink()
    outcome = Torchtune().verify(job, record())[7].outcome
    assert outcome.reason == FinishReason.RESULT_INCOMPLETE
    assert f"lacks {missing}." in outcome.message


def test_the_adapter_of_an_earlier_epoch_is_not_the_result(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(finetune_spec()))
    write_finetune(job, steps=4, epoch=0)
    assert Torchtune().verify(job, record())[7].outcome.reason == FinishReason.RESULT_INCOMPLETE


def test_more_steps_than_were_expected_are_no_success_either(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(finetune_spec()))
    write_finetune(job, steps=5)
    assert "5 of 4 steps" in Torchtune().verify(job, record())[7].outcome.message


def test_where_the_steps_are_not_known_any_step_will_do(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(finetune_spec(packed=True, steps_per_epoch=None)))
    write_finetune(job, steps=1)
    assert Torchtune().verify(job, record())[7].outcome.succeeded
