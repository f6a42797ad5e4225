"""The fine-tunes that record_finetunes.py recorded, as evidence and as what is to be predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from experiments import run_conditions
from experiments.conditions import Conditions, Metric, software_of
from experiments.specs import DataSource, FinetuneSpec, Workload

RECORDS = Path(__file__).resolve().parents[1] / "data" / "finetunes"
WARM_UP_STEPS = 1
MOVES_FIGURES = ("torch", "torchtune")


@dataclass(frozen=True)
class Recorded:
    """One run. Its steady steps are those after the warm-up: their time is what is predicted, from their tokens."""

    record: Mapping[str, Any]

    @property
    def configuration(self) -> str:
        return str(self.record["configuration"]["name"])

    @property
    def key(self) -> str:
        return f"{self.configuration}_{self.record['repeat']}"

    @property
    def model(self) -> str:
        return str(self.record["configuration"]["shape"])

    @property
    def batch_size(self) -> int:
        return int(self.record["configuration"]["batch_size"])

    @property
    def recorded_at(self) -> datetime:
        return datetime.fromisoformat(self.record["recorded_at"])

    @property
    def import_memory_mib(self) -> float:
        return float(self.record["import_memory_mib"])

    @property
    def steady_steps(self) -> int:
        return len(self.record["steps"]) - WARM_UP_STEPS

    @cached_property
    def values(self) -> Mapping[Metric, float]:
        steady = self.record["steps"][WARM_UP_STEPS:]
        return {
            Metric.SECONDS_PER_STEP: mean(step["seconds"] for step in steady),
            Metric.PEAK_DEVICE_MEMORY_MIB: self.record["peak_memory_mib"],
        }

    @cached_property
    def conditions(self) -> Conditions:
        return run_conditions.of_finetune(
            spec=self._spec, config=self.record["model_config"], place=self._place
        )

    @property
    def _spec(self) -> FinetuneSpec:
        settings = self.record["configuration"]
        return FinetuneSpec(
            model_name=self.model,
            model_path="",
            data=DataSource(path="", format="json_splits", split="train"),
            rows=self.record["rows"],
            recipe=self.record["recipe"],
            lora_rank=settings["lora_rank"],
            batch_size=self.batch_size,
            gradient_accumulation_steps=settings["gradient_accumulation_steps"],
            epochs=settings["epochs"],
            max_steps_per_epoch=self.record["max_steps_per_epoch"],
            max_seq_len=self.record["max_seq_len"],
            packed=settings["pack_tokens"] is not None,
            steps_per_epoch=len(self.record["steps"]) // settings["epochs"],
            workload=self._workload,
        )

    @property
    def _workload(self) -> Workload:
        batches = list(self._micro_batches())
        accumulation = self.record["configuration"]["gradient_accumulation_steps"]
        steady = batches[WARM_UP_STEPS * accumulation :]
        longest = max(batches)
        return Workload(
            samples=self.record["samples"],
            steps_per_epoch=self.record["max_steps_per_epoch"],
            tokens_per_step=self.batch_size * sum(steady) / self.steady_steps,
            squares_per_step=self.batch_size * sum(length**2 for length in steady) / self.steady_steps,
            longest_batch_tokens=self.batch_size * longest,
            longest_sequence=longest,
        )

    def _micro_batches(self) -> Iterator[int]:
        """Padded lengths in order, without what an epoch has beyond its steps."""
        epochs = self.record["batch_lengths"]
        accumulation = self.record["configuration"]["gradient_accumulation_steps"]
        used = len(self.record["steps"]) // len(epochs) * accumulation
        for lengths in epochs:
            yield from lengths[:used]

    @property
    def _place(self) -> run_conditions.Place:
        versions = self.record["versions"]
        return run_conditions.Place(
            device_kind=self.record["device_kind"],
            cpu_threads=self.record["cpu_threads"],
            software=software_of({name: versions[name] for name in MOVES_FIGURES}),
        )


def load(folder: Path = RECORDS) -> list[Recorded]:
    """In the order in which they were recorded."""
    runs = [Recorded(json.loads(path.read_text())) for path in folder.glob("*.json")]
    return sorted(runs, key=lambda run: run.recorded_at)


def by_configuration(runs: list[Recorded]) -> dict[str, list[Recorded]]:
    found: dict[str, list[Recorded]] = {}
    for run in runs:
        found.setdefault(run.configuration, []).append(run)
    return found
