"""One engine scores several runs; each is judged by its own result file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.specs import EngineSettings
from experiments.states import FinishReason
from scheduler.launchers.base import Ending
from scheduler.programs.base import CarriedRun, PlacedJob
from scheduler.programs.vllm import EVALUATE, Vllm, build_request
from tests.unit.jobs import (
    GPU,
    carried,
    evaluate_spec,
    finetune_spec,
    job_of,
    record,
    surroundings,
    write_result,
)


@pytest.fixture
def job(tmp_path: Path) -> PlacedJob:
    """A fine-tuned model and its base, in one engine."""
    tuned = carried(
        evaluate_spec(lora_rank=64),
        run_id=1,
        builds_on_spec=finetune_spec(),
        builds_on_directory=tmp_path / "finetune",
    )
    return job_of(tmp_path, tuned, carried(evaluate_spec(), run_id=2))


def test_the_request_has_an_entry_a_run_and_the_adapter_of_the_last_epoch(
    job: PlacedJob, tmp_path: Path
) -> None:
    request = build_request(job)
    assert [entry["run_id"] for entry in request["entries"]] == [1, 2]
    assert [entry["adapter_path"] for entry in request["entries"]] == [
        str(tmp_path / "finetune" / "output" / "epoch_1"),
        None,
    ]
    assert request["max_lora_rank"] == 64


def test_an_engine_without_adapters_has_no_lora(tmp_path: Path) -> None:
    assert build_request(job_of(tmp_path, carried(evaluate_spec())))["max_lora_rank"] is None


def test_on_cpu_the_cache_is_bounded_and_the_engine_in_process(job: PlacedJob, tmp_path: Path) -> None:
    engine = build_request(job)["engine"]
    assert engine["kv_cache_memory_bytes"] == EngineSettings().kv_cache_memory_mib * 2**20
    assert Vllm().prepare(job, surroundings(tmp_path)).env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_on_a_gpu_vllm_chooses_for_itself(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(evaluate_spec()), devices=(GPU,))
    assert build_request(job)["engine"]["dtype"] == "bfloat16"
    assert "kv_cache_memory_bytes" not in build_request(job)["engine"]


def test_the_environ_of_a_job_is_not_overwritten_by_its_process_title(job: PlacedJob, tmp_path: Path) -> None:
    assert Vllm().prepare(job, surroundings(tmp_path)).env["SPT_NOENV"] == "1"


def test_a_run_is_settled_as_soon_as_its_own_result_is_there(job: PlacedJob) -> None:
    write_result(job, 1, predictions=3)
    settled = Vllm().settled(job)
    assert list(settled) == [1]
    assert settled[1].outcome.succeeded
    assert {m.metric: m.value for m in settled[1].measurements} == {
        "exact_match": 0.5,
        "evaluation_seconds": 1.5,
        "seconds_per_prediction": 0.5,
    }


def test_the_engines_start_is_measured_once_and_its_memory_where_it_is_one_process(job: PlacedJob) -> None:
    (job.paths.directory / "request.json").write_text(json.dumps(build_request(job)))
    (job.paths.directory / "engine.json").write_text('{"boot_seconds": 12.5}')
    for run_id in (1, 2):
        write_result(job, run_id, predictions=3, host_peak_mib=700.0)
    settled = Vllm().settled(job)
    found = [{m.metric: m.value for m in settled[run_id].measurements} for run_id in (1, 2)]
    assert [measured.get("engine_startup_seconds") for measured in found] == [12.5, None]
    assert found[1]["peak_host_memory_mib"] == found[1]["peak_device_memory_mib"] == 700.0
    on_gpu = Vllm().settled(replace(job, devices=(GPU,)))
    assert "peak_device_memory_mib" not in {m.metric for m in on_gpu[1].measurements}


def test_an_adapter_that_is_there_already_is_scored_without_a_fine_tune(tmp_path: Path) -> None:
    given = carried(evaluate_spec(lora_rank=8, adapter_path="/adapters/mine"))
    assert build_request(job_of(tmp_path, given))["entries"][0]["adapter_path"] == "/adapters/mine"


def full_tuned(folder: Path, run_id: int = 1) -> CarriedRun:
    tuned = {"builds_on_spec": finetune_spec(method="full"), "builds_on_directory": folder / "finetune"}
    return carried(evaluate_spec(), run_id=run_id, **tuned)


def test_all_weights_of_a_full_fine_tune_are_the_engines_model(tmp_path: Path) -> None:
    request = build_request(job_of(tmp_path, full_tuned(tmp_path)))
    assert request["model_path"] == str(tmp_path / "finetune" / "output" / "epoch_1")
    assert (request["max_lora_rank"], request["entries"][0]["adapter_path"]) == (None, None)


def test_runs_of_different_weights_do_not_share_an_engine(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="One engine has one model"):
        build_request(job_of(tmp_path, full_tuned(tmp_path), carried(evaluate_spec(), run_id=2)))


def test_an_evaluation_is_repeated_by_a_script_beside_copies_of_its_code(
    job: PlacedJob, tmp_path: Path
) -> None:
    command = Vllm().prepare(job, surroundings(tmp_path))
    script = job.paths.directory / "command.sh"
    assert command.argv[1:] == ("code/evaluate.py", "request.json")
    assert command.files[script].endswith("code/evaluate.py request.json repeat\n")
    assert command.executables == {script}
    copied = {path.name for path in command.files if path.parent.name == "code"}
    needed = {path.name for path in EVALUATE.parent.glob("*.py")} - {"shim.py"}
    assert copied == needed


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"predictions": 2}, FinishReason.RESULT_INCOMPLETE),
        ({"predictions": 0, "state": "cancelled"}, FinishReason.CANCELLED_BY_USER),
        (
            {"predictions": 0, "state": "failed", "reason": "ADAPTER_INVALID", "message": "It is broken."},
            FinishReason.ADAPTER_INVALID,
        ),
        ({"predictions": 0, "state": "failed", "reason": "NO_SUCH_REASON"}, FinishReason.RESULT_INCOMPLETE),
        ({"predictions": 0, "state": "failed", "reason": "STOPPED"}, FinishReason.RESULT_INCOMPLETE),
    ],
)
def test_a_result_that_is_no_success_has_its_reason(
    job: PlacedJob, result: dict[str, Any], reason: FinishReason
) -> None:
    write_result(job, 1, **result)
    assert Vllm().settled(job)[1].outcome.reason == reason


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"exit_code": 1}, FinishReason.ENGINE_FAILED),
        ({"exit_code": None, "signal": 11}, FinishReason.KILLED),
        ({"exit_code": None, "ending": Ending.TIMED_OUT}, FinishReason.TIMED_OUT),
    ],
)
def test_when_the_engine_breaks_only_the_runs_without_a_result_fail(
    job: PlacedJob, ended: dict[str, Any], reason: FinishReason
) -> None:
    write_result(job, 1, predictions=3)
    verdicts = Vllm().verify(job, record(**ended))
    assert verdicts[1].outcome.succeeded
    assert verdicts[2].outcome.reason == reason


@pytest.mark.parametrize(
    ("engine", "active"),
    [
        ('{"active_run_id": 2}', [False, True]),
        ('{"boot_seconds": 1}', [True, True]),
        ("[]", [True, True]),
        (None, [True, True]),
    ],
)
def test_who_was_active_when_the_engine_broke_is_what_it_said_last(
    job: PlacedJob, engine: str | None, active: list[bool]
) -> None:
    if engine is not None:
        (job.paths.directory / "engine.json").write_text(engine)
    verdicts = Vllm().verify(job, record(exit_code=4))
    assert [verdicts[run_id].outcome.was_active for run_id in (1, 2)] == active


def test_an_engine_that_ended_well_without_a_result_did_not_break(job: PlacedJob) -> None:
    assert Vllm().verify(job, record())[1].outcome.reason == FinishReason.RESULT_INCOMPLETE


def test_a_result_that_is_still_being_written_is_no_result(job: PlacedJob) -> None:
    write_result(job, 1, predictions=3)
    (job.paths.result(1) / "result.json").write_text('{"state": "succ')
    assert Vllm().settled(job) == {}


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"state": "succeeded"}'])
def test_a_result_that_makes_no_sense_fails_its_run_and_nobody_else(job: PlacedJob, text: str) -> None:
    for run_id in (1, 2):
        write_result(job, run_id, predictions=3)
    (job.paths.result(1) / "result.json").write_text(text)
    settled = Vllm().settled(job)
    assert settled[1].outcome.reason == FinishReason.RESULT_INCOMPLETE
    assert settled[2].outcome.succeeded
