"""Evaluations by vLLM: one engine boots once and scores the base model and every adapter of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import kept
from experiments.scripts import command_sh
from experiments.specs import EvaluateSpec, FinetuneSpec
from experiments.states import FinishReason
from experiments.torchtune_command import CODE, REPEAT
from scheduler.launchers.base import ExitRecord
from scheduler.paths import JobPaths
from scheduler.programs.base import (
    CarriedRun,
    Command,
    PlacedJob,
    Surroundings,
    Verdict,
    ended_by_us,
    failed,
    killed,
    read_tail,
    succeeded,
    usage,
)
from scheduler.programs.environment import job_environment
from scheduler.programs.reproduction import COMMAND, ENVIRONMENT, copies, environment_json
from scheduler.programs.vllm_measurements import ENGINE, REQUEST, measurements

EVALUATE = Path(__file__).resolve().parent.parent / "runtimes" / "vllm" / "evaluate.py"
_MODULES = ("adapters", "engine", "entries", "evaluate", "prompts", "results", "scorers")
RESULT = "result.json"
_OF_AN_ENTRY = ("CONFIG_INVALID", "DATA_INVALID", "ADAPTER_INVALID")
_MIB = 1024 * 1024


class Vllm:
    def prepare(self, job: PlacedJob, surroundings: Surroundings) -> Command:
        folder = job.paths.directory
        argv = (str(surroundings.ml_python), f"{CODE}/{EVALUATE.name}", REQUEST)
        env = job_environment(job, surroundings) | _engine_environment(surroundings.cache_root, job.on_gpu)
        request = build_request(job)
        files = {
            folder / REQUEST: json.dumps(request, indent=1),
            folder / ENVIRONMENT: environment_json(
                model_path=Path(request["model_path"]),
                data=[_spec(run).data for run in job.runs],
                ml_python=surroundings.ml_python,
            ),
            folder / COMMAND: command_sh(argv=(*argv, REPEAT), env=env),
            **copies(EVALUATE.parent, [f"{name}.py" for name in _MODULES], into=folder / CODE),
        }
        return Command(argv=argv, env=env, files=files, executables=frozenset({folder / COMMAND}))

    def settled(self, job: PlacedJob) -> Mapping[int, Verdict]:
        results = [(run, _result(job, run)) for run in job.runs]
        return {run.run_id: _of_result(job, run, result) for run, result in results if result is not None}

    def verify(self, job: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
        return {run.run_id: _verdict(job, run, record) for run in job.runs}

    def lack(self, run: CarriedRun, paths: JobPaths) -> str:
        folder = paths.result(run.run_id)
        if _read_result(folder) is None:
            return f"{folder / RESULT} is not there."
        return _lack_of_predictions(folder, _spec(run))


def build_request(job: PlacedJob) -> dict[str, Any]:
    """Raises ValueError for runs that cannot share an engine."""
    specs = [_spec(run) for run in job.runs]
    ranks = [spec.lora_rank for spec in specs if spec.lora_rank is not None]
    models = sorted({_model_path(run) for run in job.runs})
    if len(models) > 1:
        raise ValueError(f"One engine has one model, and these runs have several: {', '.join(models)}.")
    return {
        "model_path": models[0],
        "engine": _engine(specs[0], job.on_gpu),
        "max_lora_rank": max(ranks, default=None),
        "cancel_dir": str(job.paths.cancelled),
        "entries": [_entry(job, run) for run in job.runs],
    }


def _engine(spec: EvaluateSpec, on_gpu: bool) -> dict[str, Any]:
    asked = spec.engine
    shared = {"max_model_len": asked.max_model_len, "tensor_parallel_size": asked.tensor_parallel_size}
    if on_gpu:
        return {**shared, "dtype": "bfloat16"}
    return {
        **shared,
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_memory_bytes": asked.kv_cache_memory_mib * _MIB,
        "max_num_seqs": asked.max_num_seqs,
        "max_num_batched_tokens": asked.max_num_batched_tokens,
    }


def _engine_environment(cache_root: Path, on_gpu: bool) -> dict[str, str]:
    """In process on CPU: it boots in a third of the time and leaves nothing behind when it is killed."""
    places = {
        "VLLM_CACHE_ROOT": str(cache_root / "vllm"),
        "VLLM_CONFIG_ROOT": str(cache_root / "vllm-config"),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_COLOR": "0",
        "SPT_NOENV": "1",  # else its process title overwrites the marks by which strays are found
    }
    return places if on_gpu else {**places, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def _entry(job: PlacedJob, run: CarriedRun) -> dict[str, Any]:
    spec = _spec(run)
    return {
        "run_id": run.run_id,
        "adapter_path": _adapter_path(run),
        "data_file": spec.data.path,
        "data_format": spec.data.format,
        "split": spec.data.split,
        "input_column": spec.data.input_column,
        "output_column": spec.data.output_column,
        "messages_column": spec.data.messages_column,
        "system_prompt": spec.data.system_prompt,
        "prompt_format": "llama3",
        "scorers": list(spec.scorers),
        "max_tokens": spec.max_tokens,
        "temperature": spec.temperature,
        "limit": spec.limit,
        "result_dir": str(job.paths.result(run.run_id)),
    }


def _model_path(run: CarriedRun) -> str:
    """The base model; of a full fine-tune, what it made of it."""
    tuned = run.builds_on_spec
    if run.builds_on_directory is None or not isinstance(tuned, FinetuneSpec) or tuned.method != "full":
        return _spec(run).model_path
    return str(kept.result_directory(run.builds_on_directory, epochs=tuned.epochs))


def _adapter_path(run: CarriedRun) -> str | None:
    tuned = run.builds_on_spec
    if run.builds_on_directory is None or not isinstance(tuned, FinetuneSpec):
        return _spec(run).adapter_path
    return (
        None
        if tuned.method == "full"
        else str(kept.result_directory(run.builds_on_directory, epochs=tuned.epochs))
    )


def _verdict(job: PlacedJob, run: CarriedRun, record: ExitRecord) -> Verdict:
    """A run in a shared engine ends as its own result says, whatever became of the engine afterwards."""
    result = _result(job, run)
    if result is not None:
        return _of_result(job, run, result)
    return ended_by_us(run, record) or _without_result(job, run, record)


def _without_result(job: PlacedJob, run: CarriedRun, record: ExitRecord) -> Verdict:
    if record.exit_code == 0:
        return failed(
            FinishReason.RESULT_INCOMPLETE, "The engine ended well, and its result.json is not there."
        )
    verdict = killed(record) or failed(
        FinishReason.ENGINE_FAILED, _last_error(job.paths.log), usage(record, job.paths.log, is_bound=True)
    )
    active = _active_run_id(job)
    was_active = active is None or active == run.run_id
    return replace(verdict, outcome=replace(verdict.outcome, was_active=was_active))


def _active_run_id(job: PlacedJob) -> int | None:
    """Whose turn it was; None where the engine had not booted, or nobody knows: then all of them were at it."""
    try:
        return int(json.loads((job.paths.directory / ENGINE).read_text())["active_run_id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _of_result(job: PlacedJob, run: CarriedRun, result: Any) -> Verdict:
    try:
        return _judged(job, run, result)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return failed(FinishReason.RESULT_INCOMPLETE, f"Its result.json cannot be understood: {error!r}.")


def _judged(job: PlacedJob, run: CarriedRun, result: Mapping[str, Any]) -> Verdict:
    if result["state"] == "cancelled":
        return failed(FinishReason.CANCELLED_BY_USER)
    if result["state"] != "succeeded":
        return failed(_reason(result.get("reason")), str(result.get("message") or ""))
    if lack := _lack_of_predictions(job.paths.result(run.run_id), _spec(run)):
        return failed(FinishReason.RESULT_INCOMPLETE, lack)
    return succeeded(measurements(job, run.run_id, _spec(run).expected_predictions, result))


def _lack_of_predictions(folder: Path, spec: EvaluateSpec) -> str:
    expected, written = spec.expected_predictions, _line_count(folder / "predictions.jsonl")
    return "" if written == expected else f"{written} of {expected} predictions were written."


def _result(job: PlacedJob, run: CarriedRun) -> Mapping[str, Any] | None:
    return _read_result(job.paths.result(run.run_id))


def _read_result(folder: Path) -> Mapping[str, Any] | None:
    """None where there is none, or it is still being written."""
    try:
        result: Mapping[str, Any] = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return result


def _reason(name: object) -> FinishReason:
    """Only what an entry can say of itself: by any other, a job's own file could have its run launched again."""
    return FinishReason(name) if name in _OF_AN_ENTRY else FinishReason.RESULT_INCOMPLETE


def _line_count(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _last_error(log: Path) -> str:
    lines = [line for line in read_tail(log).splitlines() if "Error" in line]
    return lines[-1].strip() if lines else ""


def _spec(run: CarriedRun) -> EvaluateSpec:
    assert isinstance(run.spec, EvaluateSpec)
    return run.spec
