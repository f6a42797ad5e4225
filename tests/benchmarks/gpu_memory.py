"""How good are the memory estimates and the batch advice on a GPU? Real torchtune LoRA on random-weight Llama shapes.

    <control python> -m tests.benchmarks.gpu_memory --out DIR [--device cuda] [--shapes llama-3.2] [--seconds 540]

Not run on a GPU yet: none was at hand. It was run on a CPU, with tiny shapes, which shows that it works and nothing of
CUDA memory:

    <control python> -m tests.benchmarks.gpu_memory --out DIR --device cpu --shapes tiny

It runs settings over batch size, length, rank and packing; leaves each out and predicts its peak from the others; then
follows the batch advice at head-room 0 and looks for the true maximum by bisection with real runs. Every run is kept in
DIR with its log, and a call takes no more than --seconds and the run it is in: it ends with 75 where there is more to do;
call it again. On a CPU the memory is the process's peak, and --capacity-mib says what is taken for the device's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from experiments import estimation
from experiments.estimation import Evidence
from tests.benchmarks import largest_batch, real_runs
from tests.benchmarks.memory_trials import ROOT, Bench, OutOfTime, Trial, Tried

CALL_AGAIN = 75
GOAL_ERROR, GOAL_SHARE = 0.03, 0.95
CEILING = 4096  # of batch sizes
SHAPES = {
    "llama-3.2": {  # the numbers of the real config.json
        "Llama-3.2-1B": {
            "hidden": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "head_dim": 64, "mlp": 8192,
            "vocabulary": 128_256,
        },
        "Llama-3.2-3B": {
            "hidden": 3072, "layers": 28, "heads": 24, "kv_heads": 8, "head_dim": 128, "mlp": 8192,
            "vocabulary": 128_256,
        },
    },
    "tiny": {
        "tiny": {
            "hidden": 128, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 64, "mlp": 384,
            "vocabulary": 8192,
        },
    },
}  # fmt: skip
# Batch size, tokens of a row or pack, rank, packed.
SETTINGS = {
    "llama-3.2": (
        (1, 512, 16, False), (4, 512, 16, False), (8, 512, 64, False), (4, 1024, 16, False),
        (2, 2048, 64, False), (4, 512, 4, False), (16, 256, 16, False), (8, 1024, 4, False),
        (1, 2048, 16, True), (2, 1024, 64, True), (4, 1024, 16, True), (2, 2048, 4, True),
    ),
    "tiny": (
        (8, 128, 4, False), (16, 128, 16, False), (16, 64, 4, False), (32, 128, 4, False), (8, 256, 16, False),
    ),
}  # fmt: skip
# Tokens, rank, packed.
ADVISED = {
    "llama-3.2": ((512, 16, False), (1024, 64, True)),
    "tiny": ((128, 4, False),),
}


@dataclass(frozen=True)
class AdviceResult:
    trial: Trial
    advised: largest_batch.Advised
    maximum: int

    @property
    def share(self) -> float:
        return (self.advised.batch_size or 0) / self.maximum if self.maximum else 0.0


def main() -> int:
    arguments = _arguments()
    bench = _bench(arguments)
    try:
        _write_models(bench, arguments.shapes)
        tried = [bench.tried(trial) for trial in trials(arguments.shapes)]
        advised = [follow(bench, trial) for trial in advised_trials(arguments.shapes)]
    except OutOfTime:
        print(f"Time is up; {len(bench.all_tried())} runs are in {bench.folder}. Call again.")
        return CALL_AGAIN
    return _report(bench, tried, advised)


def trials(shapes: str) -> list[Trial]:
    return [
        Trial(model=model, batch_size=batch_size, tokens=tokens, lora_rank=rank, packed=packed)
        for model in SHAPES[shapes]
        for batch_size, tokens, rank, packed in SETTINGS[shapes]
    ]


def advised_trials(shapes: str) -> list[Trial]:
    return [
        Trial(model=model, batch_size=1, tokens=tokens, lora_rank=rank, packed=packed)
        for model in SHAPES[shapes]
        for tokens, rank, packed in ADVISED[shapes]
    ]


def follow(bench: Bench, trial: Trial) -> AdviceResult:
    """The runs are played again from the folder, in the same order, until one is missing."""
    evidence = [bench.tried(other) for other in trials_of(bench, trial)]

    def fits(batch_size: int) -> bool:
        tried = bench.tried(replace(trial, batch_size=batch_size))
        evidence.append(tried)
        return not tried.ran_out

    advised = largest_batch.follow(lambda: _advise(bench, trial, evidence), fits)
    start = advised.batch_size or max(1, evidence[0].trial.batch_size)
    return AdviceResult(trial, advised, largest_batch.true_maximum(fits, start=start, ceiling=CEILING))


def trials_of(bench: Bench, trial: Trial) -> list[Trial]:
    shapes = next(name for name, models in SHAPES.items() if trial.model in models)
    return [other for other in trials(shapes) if other.model == trial.model]


def _advise(bench: Bench, trial: Trial, tried: Sequence[Tried]) -> int | None:
    found = estimation.largest_that_fits(
        _evidence(bench, tried),
        lambda batch_size: bench.conditions(replace(trial, batch_size=batch_size)),
        range(1, CEILING + 1),
        device_memory_mib=bench.memory_mib,
        headroom=0.0,
    )
    return None if found is None else found.batch_size


def _evidence(bench: Bench, tried: Sequence[Tried], kind: str = "reserved") -> Evidence:
    unique = {run.trial.name: run for run in tried}
    return Evidence(tuple(bench.fact(run, number, kind) for number, run in enumerate(unique.values(), 1)), ())


def errors(bench: Bench, tried: Sequence[Tried], kind: str) -> Iterator[float]:
    """Of each run that did not run out of memory, predicted from the others."""
    for run in tried:
        if run.ran_out:
            continue
        evidence = _evidence(bench, [other for other in tried if other is not run], kind)
        figure = estimation.finetune(evidence, bench.conditions(run.trial)).peak_device_memory_mib
        if figure.value is not None:
            yield figure.value / run.peak_mib(kind) - 1


def _report(bench: Bench, tried: Sequence[Tried], advised: Sequence[AdviceResult]) -> int:
    if not bench.on_gpu:
        print("This ran on a CPU. It shows that the script works, and nothing of CUDA memory.\n")
    print(f"{bench.device_kind}, {bench.memory_mib:,.0f} MiB for training, {len(bench.all_tried())} runs.\n")
    are_met = _report_errors(bench, tried) & _report_advice(advised)
    print(f"\nGoals: {'met' if are_met else 'missed'}.")
    return 0 if are_met else 1


def _report_errors(bench: Bench, tried: Sequence[Tried]) -> bool:
    print("| peak of memory that is | settings | mean absolute error | largest |\n|---|---|---|---|")
    means = {}
    for kind in ("reserved", "active"):
        found = [abs(error) for error in errors(bench, tried, kind)]
        means[kind] = mean(found) if found else float("inf")
        print(f"| {kind} | {len(found)} | {means[kind]:.1%} | {max(found, default=float('inf')):.1%} |")
    return means["reserved"] <= GOAL_ERROR  # what a run is admitted by


def _report_advice(advised: Sequence[AdviceResult]) -> bool:
    print(
        "\n| setting | advised batch | largest that ran | share | advice ran out of memory |\n|---|---|---|---|---|"
    )
    for result in advised:
        name = result.trial.name.replace("_b1_", "_")
        ran_out = "yes" if result.advised.ran_out else "no"
        print(f"| {name} | {result.advised.batch_size} | {result.maximum} | {result.share:.0%} | {ran_out} |")
    return all(result.share >= GOAL_SHARE and not result.advised.ran_out for result in advised)


def _write_models(bench: Bench, shapes: str) -> None:
    bench.folder.mkdir(parents=True, exist_ok=True)
    bench.work.mkdir(parents=True, exist_ok=True)
    models = {str(bench.model_path(name)): shape for name, shape in SHAPES[shapes].items()}
    if all((Path(path) / "model.safetensors").exists() for path in models):
        return
    request, answer = bench.work / "request.json", bench.work / "answer.json"
    dtype = "bfloat16" if bench.on_gpu else "float32"
    request.write_text(json.dumps({"models": models, "dtype": dtype, "configs": {}}))
    module = [bench.ml_python, "-m", "tests.benchmarks.finetune_inputs"]
    subprocess.run([*module, request, answer], cwd=ROOT, check=True)


def _bench(arguments: argparse.Namespace) -> Bench:
    on_gpu = arguments.device == "cuda"
    if not on_gpu and arguments.capacity_mib is None:
        raise SystemExit("On a CPU, --capacity-mib says what is taken for the device's memory, such as 900.")
    return Bench(
        folder=arguments.out.resolve(),
        work=arguments.work.resolve(),
        ml_python=arguments.ml_python,
        on_gpu=on_gpu,
        capacity_mib=arguments.capacity_mib,
        ends_at=time.monotonic() + arguments.seconds,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where the runs' records and logs are kept")
    parser.add_argument("--work", type=Path, default=Path("/tmp/labmgr-gpu-memory"), help="scratch folder")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shapes", choices=list(SHAPES), default="llama-3.2")
    parser.add_argument("--seconds", type=float, default=540.0, help="no run is begun after so many")
    parser.add_argument("--capacity-mib", type=float)
    parser.add_argument("--ml-python", type=real_runs.ml_python, default=real_runs.ML_PYTHON)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
