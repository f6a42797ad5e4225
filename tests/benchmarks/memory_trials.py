"""Short fine-tunes that show what memory a setting takes: run once, and kept in a folder from then on."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments import run_conditions
from experiments.conditions import Conditions, Metric, software_of
from experiments.estimation import Fact
from experiments.parsers import torchtune as parser
from experiments.specs import DataSource, FinetuneSpec, Workload
from experiments.states import FinishReason
from scheduler.programs.base import GrantedDevice, Surroundings
from scheduler.programs.environment import ml_versions
from tests.benchmarks import real_runs
from tests.benchmarks.finetune_set import CHAT_TOKENS, OUTPUT_BYTES

ROOT = Path(__file__).resolve().parents[2]
STEPS = 3
LOG_TAIL_BYTES = 64 * 1024
GIB = 1024.0  # MiB, which torchtune's figures are turned into
# What a process finds on a GPU that uses it for nothing yet: the rest is its context.
_LOOK = (
    "import torch; torch.zeros(1, device='cuda'); free, total = torch.cuda.mem_get_info(); "
    "print((free + torch.cuda.memory_reserved()) // 2**20, torch.cuda.get_device_name())"
)


class OutOfTime(Exception):
    """The call's time is up; what was run is kept."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """All rows are of one length, so that every batch is the longest."""

    model: str
    batch_size: int
    tokens: int  # of a row, or of a pack
    lora_rank: int
    packed: bool = False

    @property
    def name(self) -> str:
        packed = "_packed" if self.packed else ""
        return f"{self.model}_b{self.batch_size}_t{self.tokens}_r{self.lora_rank}{packed}"

    def rows(self) -> list[dict[str, str]]:
        """A pack is made of two rows that fill it."""
        tokens, parts = (self.tokens // 2, 2) if self.packed else (self.tokens, 1)
        text = "a" * (tokens - CHAT_TOKENS - OUTPUT_BYTES)
        return [{"input": text, "output": "b" * OUTPUT_BYTES}] * (STEPS * self.batch_size * parts)

    def workload(self) -> Workload:
        return Workload(
            samples=STEPS * self.batch_size,
            steps_per_epoch=STEPS,
            tokens_per_step=self.batch_size * self.tokens,
            squares_per_step=self.batch_size * self.tokens**2,
            longest_batch_tokens=self.batch_size * self.tokens,
            longest_sequence=self.tokens,
        )


@dataclass(frozen=True)
class Tried:
    trial: Trial
    record: Mapping[str, Any]

    @property
    def ran_out(self) -> bool:
        return bool(self.record["ran_out"])

    def peak_mib(self, kind: str) -> float:
        """`kind`: active, alloc or reserved on a GPU; on a CPU all are the process's peak."""
        return float(self.record["peaks_mib"][kind])


@dataclass(frozen=True, kw_only=True)
class Bench:
    folder: Path  # records and logs
    work: Path  # models, run directories
    ml_python: Path
    on_gpu: bool
    capacity_mib: float | None  # None: the GPU's own
    ends_at: float

    def tried(self, trial: Trial) -> Tried:
        """From the folder, or by a run, if there is time for one."""
        path = self.folder / f"{trial.name}.json"
        if not path.exists():
            self._check_time()
            path.write_text(json.dumps(self._run(trial), indent=1) + "\n")
        return Tried(trial, json.loads(path.read_text()))

    def all_tried(self) -> list[Tried]:
        records = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*_b*_t*_r*.json"))]
        return [Tried(Trial(**record["trial"]), record) for record in records]

    def conditions(self, trial: Trial) -> Conditions:
        config = json.loads((self.model_path(trial.model) / "config.json").read_text())
        return run_conditions.of_finetune(spec=self._spec(trial), config=config, place=self._place)

    def fact(self, tried: Tried, number: int, kind: str = "reserved") -> Fact:
        """What ran out of memory is a bound: it needs more than there is."""
        return Fact(
            id=number,
            metric=Metric.PEAK_DEVICE_MEMORY_MIB,
            value=self.memory_mib if tried.ran_out else tried.peak_mib(kind),
            is_bound=tried.ran_out,
            is_told=False,
            run_key=tried.trial.name,
            conditions=self.conditions(tried.trial),
            observed_at=datetime.fromisoformat(tried.record["recorded_at"]),
        )

    def model_path(self, name: str) -> Path:
        return self.work / "models" / name

    @cached_property
    def memory_mib(self) -> float:
        """What training may take: the device's memory without the context, which is the process's own."""
        return self.capacity_mib or float(self._look[0])

    @cached_property
    def device_kind(self) -> str:
        return self._look[1] if self.on_gpu else real_runs.processor()

    @cached_property
    def _look(self) -> tuple[str, str]:
        done = subprocess.run([self.ml_python, "-c", _LOOK], capture_output=True, text=True, check=True)
        free, name = done.stdout.strip().split(" ", 1)
        return free, name

    @property
    def _place(self) -> run_conditions.Place:
        versions = ml_versions(self.ml_python)
        software = software_of({name: versions[name] for name in ("torch", "torchtune")})
        return run_conditions.Place(device_kind=self.device_kind, on_gpu=self.on_gpu, software=software)

    def _check_time(self) -> None:
        if time.monotonic() >= self.ends_at:
            raise OutOfTime

    def _run(self, trial: Trial) -> dict[str, Any]:
        print(f"runs {trial.name}", flush=True)
        directory = self.work / "runs" / trial.name
        kind = "gpu" if self.on_gpu else "cpu"
        command = real_runs.prepare(
            self._spec(trial),
            directory=directory,
            rows=trial.rows(),
            device=GrantedDevice(kind=kind, uuid="0", model_name=self.device_kind, memory_mib=0),
            surroundings=Surroundings(ml_python=self.ml_python, cache_root=self.work / "cache"),
        )
        finished = real_runs.launch(command, directory)
        shutil.copyfile(directory / "output.log", self.folder / f"{trial.name}.log")
        peaks = self._peaks_mib(finished)
        shutil.rmtree(directory)
        return {
            "trial": asdict(trial),
            "ran_out": self._ran_out(trial, finished, peaks),
            "peaks_mib": peaks,
            "memory_mib": self.memory_mib,
            "device_kind": self.device_kind,
            "recorded_at": datetime.fromtimestamp(finished.launched_at, UTC).isoformat(),
            "total_seconds": round(finished.total_seconds, 2),
            "versions": dict(ml_versions(self.ml_python)),
        }

    def _ran_out(self, trial: Trial, finished: real_runs.Finished, peaks: Mapping[str, float]) -> bool:
        """On a CPU, where nothing is refused at the capacity, the run counts as one that ran out."""
        if finished.exit_code == 0:
            return not self.on_gpu and peaks["reserved"] > self.memory_mib
        log = (self.folder / f"{trial.name}.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        found = parser.classify_error(log)
        if found and found[0] is FinishReason.OUT_OF_MEMORY:
            return True
        raise SystemExit(f"{trial.name} ended with {finished.exit_code}: see {self.folder}/{trial.name}.log")

    def _peaks_mib(self, finished: real_runs.Finished) -> dict[str, float]:
        kinds = ("active", "alloc", "reserved")
        if not self.on_gpu:
            return dict.fromkeys(kinds, round(finished.peak_memory_mib, 1))
        steps = [event for event in finished.events if event["event"] == "step"]
        return {
            kind: round(GIB * max((event[f"peak_memory_{kind}"] for event in steps), default=0.0), 1)
            for kind in kinds
        }

    def _spec(self, trial: Trial) -> FinetuneSpec:
        rows = self.work / "runs" / trial.name / "rows.json"
        return FinetuneSpec(
            model_name=trial.model,
            model_path=str(self.model_path(trial.model)),
            data=DataSource(path=str(rows), format="json_splits", split="train"),
            rows=len(trial.rows()),
            recipe=real_runs.RECIPE,
            lora_rank=trial.lora_rank,
            lora_alpha=2 * trial.lora_rank,
            batch_size=trial.batch_size,
            max_steps_per_epoch=STEPS,
            max_seq_len=trial.tokens,
            packed=trial.packed,
            steps_per_epoch=STEPS,
            workload=trial.workload(),
            overrides=real_runs.STEP_CLOCK,
        )
