"""torchtune exits with 0 in cases where it trained nothing: success is what the files say."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.states import REASONS, FinishReason
from experiments.torchtune_builders import UnsupportedModel
from experiments.torchtune_config import build_config
from scheduler.launchers.base import Ending
from scheduler.programs.base import Verdict
from scheduler.programs.torchtune import Torchtune
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
    assert set(measured) == {
        "job_seconds",
        "peak_host_memory_mib",
        "peak_device_memory_mib",
        "checkpoint_disk_mib",
        "final_loss",
    }
    assert not any(measurement.is_bound for measurement in measured.values())
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


@pytest.mark.parametrize("log", ["oom.err", "bad_model_key.err"])
def test_what_a_run_took_that_did_not_come_to_its_end_is_a_bound(tmp_path: Path, log: str) -> None:
    found = verdict(tmp_path, exit_code=1, log=(SAMPLES / log).read_text())
    bounds = {measurement.metric: measurement.is_bound for measurement in found.measurements}
    assert bounds == {"job_seconds": True, "peak_host_memory_mib": True, "peak_device_memory_mib": True}


def clocked(folder: Path, *, steps: int, line: str = "", devices: Any = None, **ended: Any) -> Verdict:
    """Steps of half a second, the first of which ends 3 s after the job's start; epochs of 10 steps."""
    fields = {"steps_per_epoch": 10, "epochs": 2}
    job = job_of(folder, carried(finetune_spec(**fields)), **({"devices": devices} if devices else {}))
    write_finetune(job, steps=steps)
    lines = (f"Step {n} | loss:1.0 {line}at:{1002.5 + n / 2} \n" for n in range(1, steps + 1))
    (job.paths.output / "logs" / "log_1.txt").write_text("".join(lines))
    job.paths.log.write_text("Memory stats after model init:\n\tGPU peak memory allocation: 2.5 GiB\n")
    times = {"started_at": 1000.0, "ended_at": 1020.0}
    return Torchtune().verify(job, record(**{**times, **ended}))[7]


def values(verdict: Verdict) -> dict[str, float]:
    return {measurement.metric: measurement.value for measurement in verdict.measurements}


def test_steps_and_start_up_are_measured_by_the_clock(tmp_path: Path) -> None:
    measured = values(clocked(tmp_path, steps=20))
    assert (measured["seconds_per_step"], measured["startup_seconds"]) == (0.5, 2.5)
    assert measured["checkpoint_seconds"] == (0.0 + 7.5) / 2
    assert measured["memory_after_init_mib"] == 2560.0


def test_the_steps_of_a_run_that_was_ended_are_measured_and_its_peak_is_a_bound(tmp_path: Path) -> None:
    found = clocked(tmp_path, steps=8, exit_code=None, signal=15, ending=Ending.TIMED_OUT)
    assert found.outcome.reason == FinishReason.TIMED_OUT
    assert values(found)["seconds_per_step"] == 0.5
    bounds = {measurement.metric for measurement in found.measurements if measurement.is_bound}
    assert bounds == {"job_seconds", "peak_host_memory_mib", "peak_device_memory_mib"}


def test_on_a_gpu_the_most_that_was_reserved_is_the_devices_peak(tmp_path: Path) -> None:
    found = clocked(tmp_path, steps=20, line="peak_memory_reserved:2.5 ", devices=(GPU,))
    assert (values(found)["peak_device_memory_mib"], values(found)["peak_host_memory_mib"]) == (2560.0, 100.0)
    unknown = clocked(tmp_path, steps=20, devices=(GPU,))
    assert "peak_device_memory_mib" not in values(unknown)


def test_a_training_that_diverged_failed_and_says_from_which_step_on(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(finetune_spec()))
    write_finetune(job, steps=4)
    (job.paths.output / "logs" / "log_1.txt").write_text("Step 1 | loss:1.0 \nStep 2 | loss:nan \n")
    outcome = Torchtune().verify(job, record())[7].outcome
    assert outcome.reason == FinishReason.RESULT_INCOMPLETE
    assert "Its loss is no number from step 2 on: lower the learning rate." in outcome.message


@pytest.mark.parametrize(
    "missing", ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]
)
def test_a_full_fine_tune_needs_all_its_weights(tmp_path: Path, missing: str) -> None:
    job = job_of(tmp_path, carried(finetune_spec(method="full")))
    write_finetune(job, steps=4, adapter=False)
    folder = job.paths.output / "epoch_1"
    (folder / "config.json").write_text("{}")
    (folder / "model-00001-of-00001.safetensors").write_bytes(b"weights")
    index = {"weight_map": {"lm_head": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert Torchtune().verify(job, record())[7].outcome.succeeded
    (folder / missing).unlink()
    assert missing in Torchtune().verify(job, record())[7].outcome.message


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    assert "3 of 4 steps" in verdict(tmp_path, steps=3).outcome.message


def test_the_command_is_an_argument_list_with_a_configuration_file(tmp_path: Path) -> None:
    spec = finetune_spec(model_path=str(write_model(tmp_path / "model")))
    command = Torchtune().prepare(job_of(tmp_path, carried(spec)), surroundings(tmp_path))
    assert command.argv[1:] == ("-m", "torchtune._cli.tune", "run", spec.recipe, "--config", "finetune.yaml")
    config = yaml.safe_load(command.files[tmp_path / "job" / "finetune.yaml"])
    assert config["checkpointer"]["checkpoint_files"] == ["model.safetensors"]


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
