"""Jobs as their programs see them, and the files that they leave."""

import json
import time
from pathlib import Path
from typing import Any

from experiments.specs import DataSource, EvaluateSpec, FinetuneSpec, RunSpec
from scheduler.launchers.base import Ending, ExitRecord
from scheduler.paths import JobPaths
from scheduler.programs.base import CarriedRun, GrantedDevice, PlacedJob, Surroundings

DATA = DataSource(path="/data/words.json", format="json_splits", split="train", system_prompt="Capitalize.")
CPU = GrantedDevice(kind="cpu", uuid="here/cpu/0", model_name="cpu", memory_mib=4096)
GPU = GrantedDevice(kind="gpu", uuid="GPU-1", model_name="H100", memory_mib=81559)
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "rope_theta": 500000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 32.0},
}


def finetune_spec(**fields: Any) -> FinetuneSpec:
    defaults: dict[str, Any] = {"model_name": "tiny", "model_path": "/models/tiny", "data": DATA, "rows": 8}
    return FinetuneSpec(**{**defaults, "epochs": 2, "steps_per_epoch": 2, **fields})


def evaluate_spec(**fields: Any) -> EvaluateSpec:
    defaults: dict[str, Any] = {"model_name": "tiny", "model_path": "/models/tiny", "data": DATA, "rows": 3}
    return EvaluateSpec(**{**defaults, **fields})


def carried(spec: RunSpec, run_id: int = 7, **fields: Any) -> CarriedRun:
    return CarriedRun(run_id=run_id, name=f"run-{run_id}", spec=spec, **fields)


def job_of(folder: Path, *runs: CarriedRun, devices: tuple[GrantedDevice, ...] = (CPU,)) -> PlacedJob:
    paths = JobPaths(folder / "job", folder / "control")
    paths.directory.mkdir(exist_ok=True)
    paths.log.touch()
    return PlacedJob(job_id=1, title="t", paths=paths, runs=runs, devices=devices, cpu_threads=2)


def surroundings(folder: Path) -> Surroundings:
    return Surroundings(ml_python=folder / "ml" / "bin" / "python", cache_root=folder / "cache")


def record(**fields: Any) -> ExitRecord:
    defaults: dict[str, Any] = {
        "job_id": 1,
        "ending": Ending.EXITED,
        "exit_code": 0,
        "signal": None,
        "started_at": time.time() - 5,
        "ended_at": time.time(),
        "peak_rss_mib": 100,
        "cpu_seconds": 1.0,
        "unkillable_pids": (),
        "message": "",
    }
    return ExitRecord(**{**defaults, **fields})


def write_model(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **config}))
    return folder


def write_finetune(job: PlacedJob, *, steps: int, epoch: int = 1, adapter: bool = True) -> None:
    """What torchtune leaves after so many steps."""
    logs, saved = job.paths.output / "logs", job.paths.output / f"epoch_{epoch}"
    for folder in (logs, saved):
        folder.mkdir(parents=True, exist_ok=True)
    lines = (f"Step {step} | loss:{1 / step} lr:0.001 \n" for step in range(1, steps + 1))
    (logs / "log_1.txt").write_text("".join(lines))
    if adapter:
        (saved / "adapter_model.safetensors").write_bytes(b"weights")
        (saved / "adapter_config.json").write_text("{}")


def write_result(job: PlacedJob, run_id: int, *, predictions: int, **result: Any) -> None:
    """What the evaluation leaves for one of its runs."""
    folder = job.paths.result(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.jsonl").write_text("{}\n" * predictions)
    found = {"state": "succeeded", "metrics": {"exact_match": 0.5}, "seconds": 1.5, **result}
    (folder / "result.json").write_text(json.dumps(found))
