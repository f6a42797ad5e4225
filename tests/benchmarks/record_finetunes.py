"""Record real CPU fine-tunes: every step's seconds, CPU seconds and peak memory, with all that they depend on.

    LABMGR_ML_PYTHON=.../python taskset -c 1 <control python> -m tests.benchmarks.record_finetunes [--work DIR]

Each run is the job that labmgr itself would launch, made by the same program in the same environment, with a metric
logger that keeps the clock. What is recorded already is kept, so a recording that was broken off goes on. The times are
wall-clock times: leave the machine alone. How busy its other cores were is recorded, since that slows a core, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from experiments.specs import DataSource, FinetuneSpec
from scheduler.programs.base import Command, GrantedDevice, Surroundings
from scheduler.programs.environment import ml_versions
from tests.benchmarks import finetune_set, real_runs
from tests.benchmarks.finetune_set import Configuration

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "tests" / "data" / "finetunes"
THREADS = 1
MIB = 1024 * 1024


@dataclass(frozen=True)
class Workshop:
    """Where the models, the runs' directories and the caches are."""

    folder: Path
    ml_python: Path

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(ml_python=self.ml_python, cache_root=self.folder / "cache")

    def directory(self, configuration: Configuration) -> Path:
        return self.folder / "runs" / configuration.name

    def model_path(self, shape: str) -> Path:
        return self.folder / "models" / shape

    def command(self, configuration: Configuration) -> Command:
        return real_runs.prepare(
            self._spec(configuration),
            directory=self.directory(configuration),
            rows=configuration.rows(),
            device=GrantedDevice(kind="cpu", uuid="here", model_name=real_runs.processor(), memory_mib=0),
            surroundings=self.surroundings,
            threads=THREADS,
        )

    def _spec(self, configuration: Configuration) -> FinetuneSpec:
        rows = self.directory(configuration) / "rows.json"
        return FinetuneSpec(
            model_name=configuration.shape,
            model_path=str(self.model_path(configuration.shape)),
            data=DataSource(path=str(rows), format="json_splits", split="train"),
            rows=configuration.row_count,
            recipe=real_runs.RECIPE,
            lora_rank=configuration.lora_rank,
            lora_alpha=2 * configuration.lora_rank,
            batch_size=configuration.batch_size,
            gradient_accumulation_steps=configuration.gradient_accumulation_steps,
            epochs=configuration.epochs,
            max_steps_per_epoch=configuration.steps_per_epoch,
            max_seq_len=configuration.max_seq_len,
            packed=configuration.pack_tokens is not None,
            overrides=real_runs.STEP_CLOCK,
        )


def main() -> None:
    arguments = _arguments()
    workshop = Workshop(arguments.work, arguments.ml_python)
    RECORDS.mkdir(parents=True, exist_ok=True)
    runs = finetune_set.runs()
    inputs = _inputs({configuration.name: configuration for configuration, _ in runs}, workshop)
    imports = {"import_memory_mib": round(real_runs.import_memory_mib(arguments.ml_python), 1)}
    for number, (configuration, repeat) in enumerate(runs, 1):
        path = RECORDS / f"{configuration.name}_{repeat}.json"
        if path.exists():
            continue
        print(f"{number} of {len(runs)}: {path.stem}", flush=True)
        record = _record(configuration, workshop) | imports | inputs[configuration.name]
        path.write_text(_text({"repeat": repeat, **record}))


def _inputs(configurations: Mapping[str, Configuration], workshop: Workshop) -> dict[str, Any]:
    """Makes the models, and has torchtune tokenize and batch all rows in one process."""
    models = {
        str(workshop.model_path(name)): {**shape, "head_dim": finetune_set.HEAD_DIM}
        for name, shape in finetune_set.SHAPES.items()
    }
    workshop.folder.mkdir(parents=True, exist_ok=True)
    _ask(workshop, models=models, configs={})
    configs = {
        name: yaml.safe_load(next(iter(workshop.command(configuration).files.values())))
        for name, configuration in configurations.items()
    }
    return _ask(workshop, models={}, configs=configs)


def _ask(workshop: Workshop, **request: Any) -> dict[str, Any]:
    asked, answered = workshop.folder / "request.json", workshop.folder / "answer.json"
    asked.write_text(json.dumps({"dtype": "float32", **request}))
    module = [workshop.ml_python, "-m", "tests.benchmarks.finetune_inputs"]
    subprocess.run([*module, asked, answered], cwd=ROOT, check=True)
    answer: dict[str, Any] = json.loads(answered.read_text())
    return answer


def _record(configuration: Configuration, workshop: Workshop) -> dict[str, Any]:
    command, directory = workshop.command(configuration), workshop.directory(configuration)
    finished = real_runs.launch(command, directory)
    if finished.exit_code:
        raise SystemExit(f"{configuration.name} ended with {finished.exit_code}: see {directory}/output.log")
    return {
        **_conditions(configuration, command, workshop),
        "recorded_at": datetime.fromtimestamp(finished.launched_at, UTC).isoformat(timespec="seconds"),
        "peak_memory_mib": round(finished.peak_memory_mib, 1),
        "total_seconds": round(finished.total_seconds, 3),
        "busy_elsewhere": round(finished.busy_elsewhere, 3),
        **_timeline(finished),
        "adapter_mib": round(_adapter_bytes(directory) / MIB, 3),
    }


def _timeline(finished: real_runs.Finished) -> dict[str, Any]:
    moments: dict[str, list[Mapping[str, Any]]] = {}
    for event in finished.events:
        moments.setdefault(event["event"], []).append(event)
    training = moments["training"][0]
    saves = zip(moments["saving"], moments["saved"], strict=True)
    return {
        "startup_seconds": round(training["time"] - finished.launched_at, 3),
        "startup_peak_mib": round(training["VmHWM"] / 1024, 1),
        "save_seconds": [round(saved["clock"] - saving["clock"], 4) for saving, saved in saves],
        "steps": _steps(finished.events),
    }


def _steps(events: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """A step lasts from the end of what was before it: the set-up, another step, or a save."""
    return [
        {
            "seconds": round(event["clock"] - before["clock"], 4),
            "cpu_seconds": round(event["cpu"] - before["cpu"], 4),
            "peak_mib": round(event["VmHWM"] / 1024, 1),
            "resident_mib": round(event["VmRSS"] / 1024, 1),
        }
        for before, event in zip(events, events[1:], strict=False)
        if event["event"] == "step"
    ]


def _conditions(configuration: Configuration, command: Command, workshop: Workshop) -> dict[str, Any]:
    config = json.loads((workshop.model_path(configuration.shape) / "config.json").read_text())
    said = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX")
    return {
        "configuration": {"name": configuration.name, **dataclasses.asdict(configuration)},
        "rows": configuration.row_count,
        "max_seq_len": configuration.max_seq_len,
        "max_steps_per_epoch": configuration.steps_per_epoch,
        "recipe": real_runs.RECIPE,
        "model_config": {key: value for key, value in config.items() if isinstance(value, int | str)},
        "versions": dict(ml_versions(workshop.ml_python)),
        "device_kind": real_runs.processor(),
        "cpu_threads": THREADS,
        "environment": {name: command.env[name] for name in said if name in command.env},
    }


def _adapter_bytes(directory: Path) -> int:
    adapters = sorted((directory / "output").glob("epoch_*/adapter_model.safetensors"))
    return adapters[-1].stat().st_size


def _text(record: Mapping[str, Any]) -> str:
    """A key a line: lists of numbers stay on one."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/tmp/labmgr-finetunes"), help="scratch folder")
    parser.add_argument("--ml-python", type=real_runs.ml_python, default=real_runs.ML_PYTHON)
    return parser.parse_args()


if __name__ == "__main__":
    main()
