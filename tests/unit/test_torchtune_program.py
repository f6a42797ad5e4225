"""torchtune exits with 0 in cases where it trained nothing: success is what the files say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.states import REASONS, FinishReason
from scheduler.launchers.base import Ending
from scheduler.programs.base import Verdict
from scheduler.programs.torchtune import Torchtune
from scheduler.programs.torchtune_config import UnsupportedModel, build_config
from tests.unit.jobs import (
    GPU,
    LLAMA,
    carried,
    finetune_spec,
    job_of,
    record,
    surroundings,
    write_finetune,
    write_model,
)

SAMPLES = Path(__file__).parents[1] / "data" / "torchtune"


def config_of(spec: Any = None, *, on_gpu: bool = False, **model: Any) -> dict[str, Any]:
    return build_config(
        spec=spec or finetune_spec(),
        model_config={**LLAMA, **model},
        weight_files=["model.safetensors"],
        output_dir=Path("/out"),
        on_gpu=on_gpu,
    )


def verdict(folder: Path, *, steps: int = 4, log: str = "", adapter: bool = True, **ended: Any) -> Verdict:
    job = job_of(folder, carried(finetune_spec()))
    write_finetune(job, steps=steps, adapter=adapter)
    job.paths.log.write_text(log)
    return Torchtune().verify(job, record(**ended))[7]


def test_a_fine_tune_with_all_its_steps_and_its_adapter_succeeded(tmp_path: Path) -> None:
    found = verdict(tmp_path)
    assert found.outcome.succeeded
    measured = {measurement.metric: measurement for measurement in found.measurements}
    assert set(measured) == {"job_seconds", "peak_host_memory_mib", "final_loss"}
    assert (measured["final_loss"].source_line, measured["final_loss"].unit) == (4, "nats")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"steps": 0}, FinishReason.TRAINED_NOTHING),
        ({"steps": 3}, FinishReason.RESULT_INCOMPLETE),
        ({"adapter": False}, FinishReason.RESULT_INCOMPLETE),
        ({"exit_code": 3}, FinishReason.EXIT_CODE),
        ({"exit_code": 1, "log": (SAMPLES / "oom.err").read_text()}, FinishReason.OUT_OF_MEMORY),
        ({"exit_code": 1, "log": (SAMPLES / "bad_model_key.err").read_text()}, FinishReason.CONFIG_INVALID),
        ({"exit_code": None, "signal": 9}, FinishReason.KILLED),
        ({"exit_code": None, "signal": 9, "log": "KeyError: 'input'"}, FinishReason.KILLED),
        ({"exit_code": None, "signal": 15, "ending": Ending.TIMED_OUT}, FinishReason.TIMED_OUT),
        ({"exit_code": None, "ending": Ending.SUPERVISOR_LOST}, FinishReason.SUPERVISOR_LOST),
        ({"exit_code": None, "ending": Ending.LAUNCH_FAILED}, FinishReason.LAUNCH_FAILED),
    ],
)
def test_every_other_ending_has_its_reason_and_a_sentence(
    tmp_path: Path, found: dict[str, Any], reason: FinishReason
) -> None:
    outcome = verdict(tmp_path, **found).outcome
    assert (outcome.succeeded, outcome.reason) == (False, reason)
    assert outcome.message.startswith(REASONS[reason].sentence)


@pytest.mark.parametrize(("log", "is_bound"), [("oom.err", True), ("bad_model_key.err", False)])
def test_what_a_run_took_that_ran_out_of_memory_is_a_bound(tmp_path: Path, log: str, is_bound: bool) -> None:
    found = verdict(tmp_path, exit_code=1, log=(SAMPLES / log).read_text())
    bounds = {measurement.metric: measurement.is_bound for measurement in found.measurements}
    assert bounds == {"job_seconds": False, "peak_host_memory_mib": is_bound}


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    assert "3 of 4 steps" in verdict(tmp_path, steps=3).outcome.message


def test_the_command_is_an_argument_list_with_a_configuration_file(tmp_path: Path) -> None:
    spec = finetune_spec(model_path=str(write_model(tmp_path / "model")))
    command = Torchtune().prepare(job_of(tmp_path, carried(spec)), surroundings(tmp_path))
    (path, text), *rest = command.files.items()
    assert rest == []
    assert command.argv[1:] == ("-m", "torchtune._cli.tune", "run", spec.recipe, "--config", str(path))
    assert yaml.safe_load(text)["checkpointer"]["checkpoint_files"] == ["model.safetensors"]


def test_only_the_adapter_is_saved_since_merging_on_cpu_spoils_the_weights() -> None:
    assert config_of()["save_adapter_weights_only"] is True


def test_every_step_is_logged_and_the_memory_only_where_there_is_a_gpu() -> None:
    assert config_of()["log_every_n_steps"] == 1
    assert (config_of()["log_peak_memory_stats"], config_of(on_gpu=True)["log_peak_memory_stats"]) == (
        False,
        True,
    )
    assert (config_of()["device"], config_of(on_gpu=True)["device"]) == ("cpu", "cuda")


def test_the_settings_of_a_document_reach_the_configuration() -> None:
    config = config_of(finetune_spec(lora_rank=4, lora_alpha=8, overrides={"optimizer.weight_decay": 0.5}))
    assert (config["model"]["lora_rank"], config["model"]["lora_alpha"]) == (4, 8)
    assert config["optimizer"]["weight_decay"] == 0.5
    assert config["dataset"]["new_system_prompt"] == "Capitalize."
    assert config["dataset"]["field"] == "train"


@pytest.mark.parametrize(
    ("model", "builder"),
    [
        ({}, "torchtune.models.llama3_2.lora_llama3_2"),
        ({"tie_word_embeddings": False}, "torchtune.models.llama3_1.lora_llama3_1"),
        ({"tie_word_embeddings": False, "rope_scaling": None}, "torchtune.models.llama3.lora_llama3"),
    ],
)
def test_the_builder_follows_from_the_models_own_configuration(model: dict[str, Any], builder: str) -> None:
    assert config_of(**model)["model"]["_component_"] == builder


def test_a_model_that_torchtune_cannot_build_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="model_type 'gpt2' is not supported"):
        config_of(model_type="gpt2")


def test_a_job_sees_its_gpus_by_uuid_and_none_of_the_services_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://user:secret@host/db")
    spec = finetune_spec(model_path=str(write_model(tmp_path / "model")))
    job = job_of(tmp_path, carried(spec), devices=(GPU,))
    environment = Torchtune().prepare(job, surroundings(tmp_path)).env
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert environment["HOME"] == str(job.paths.directory)
    assert not [
        name
        for name in environment
        if "SECRET" in name or name.startswith(("DATABASE", "REDIS", "DJANGO", "LABMGR"))
    ]
