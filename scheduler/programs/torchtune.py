"""Fine-tunes by torchtune 0.6.1. It exits with 0 in cases where it trained nothing, so success is read from its files."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from experiments.parsers import torchtune as parser
from experiments.specs import FinetuneSpec, Measurement
from experiments.states import FinishReason
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
from scheduler.programs.torchtune_config import build_config

LAST_STEPS = 20  # the final loss is their mean


class Torchtune:
    def prepare(self, job: PlacedJob, surroundings: Surroundings) -> Command:
        spec = _spec(job.runs[0])
        config_path = job.paths.directory / "finetune.yaml"
        config = build_config(
            spec=spec,
            model_config=json.loads((Path(spec.model_path) / "config.json").read_text()),
            weight_files=_weight_files(Path(spec.model_path)),
            output_dir=job.paths.output,
            on_gpu=job.on_gpu,
        )
        python = str(surroundings.ml_python)
        return Command(
            argv=(python, "-m", "torchtune._cli.tune", "run", spec.recipe, "--config", str(config_path)),
            env=job_environment(job, surroundings),
            files={config_path: yaml.safe_dump(config, sort_keys=False)},
        )

    def settled(self, job: PlacedJob) -> Mapping[int, Verdict]:
        return {}

    def verify(self, job: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
        run = job.runs[0]
        return {run.run_id: ended_by_us(run, record) or _verdict(_spec(run), job.paths, record)}


def adapter_directory(run_directory: Path, spec: FinetuneSpec) -> Path:
    """Where the adapter of the last epoch lies; epochs are counted from 0."""
    return run_directory / "output" / f"epoch_{spec.epochs - 1}"


def _verdict(spec: FinetuneSpec, paths: JobPaths, record: ExitRecord) -> Verdict:
    measured = usage(record, paths.log)
    if record.signal is not None or record.exit_code != 0:
        found = parser.classify_error(read_tail(paths.log))
        if found and (record.signal is None or found[0] is FinishReason.OUT_OF_MEMORY):
            is_bound = found[0] is FinishReason.OUT_OF_MEMORY
            return failed(*found, usage(record, paths.log, ran_out_of_memory=is_bound))
        return killed(record) or failed(FinishReason.EXIT_CODE, f"Exit code {record.exit_code}.", measured)
    steps = parser.read_metrics(paths.output)
    if not steps:
        return failed(FinishReason.TRAINED_NOTHING, "", measured)
    lack = _lack(spec, paths, steps[-1].step)
    if lack:
        return failed(FinishReason.RESULT_INCOMPLETE, lack, measured)
    return succeeded((*measured, *_training_measurements(paths, steps)))


def _lack(spec: FinetuneSpec, paths: JobPaths, last_step: int) -> str:
    expected = spec.epochs * spec.steps_per_epoch if spec.steps_per_epoch else None
    if expected is not None and last_step != expected:
        return f"{last_step} of {expected} steps are in its metrics file."
    adapter = adapter_directory(paths.directory, spec)
    missing = [
        name
        for name in ("adapter_model.safetensors", "adapter_config.json")
        if not (adapter / name).is_file()
    ]
    return f"{adapter} lacks {', '.join(missing)}." if missing else ""


def _training_measurements(paths: JobPaths, steps: list[parser.StepRecord]) -> tuple[Measurement, ...]:
    source = str(parser.metrics_file(paths.output))
    last = steps[-LAST_STEPS:]
    loss = sum(record.loss for record in last) / len(last)
    measured = [
        Measurement(
            metric="final_loss", value=loss, unit="nats", source_file=source, source_line=last[-1].line
        )
    ]
    progress = parser.parse_progress(read_tail(paths.log))
    elapsed = sum(epoch.elapsed_seconds for epoch in progress)
    if elapsed:
        pace = elapsed / sum(epoch.steps for epoch in progress)
        measured.append(
            Measurement(metric="seconds_per_step", value=pace, unit="s", source_file=str(paths.log))
        )
    return tuple(measured)


def _weight_files(model_path: Path) -> list[str]:
    index = model_path / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))


def _spec(run: CarriedRun) -> FinetuneSpec:
    assert isinstance(run.spec, FinetuneSpec)
    return run.spec
