"""How long does a plan of 500 cells take with 10,000 observations in the database?

    python -m tests.benchmarks.plan_speed [cells] [observations]

The demo's models, a data set of 2,000 words, an SQLite database of its own. The observations are of ten shapes and
two devices, made up to be fitted; what they say does not matter here. Prints seconds of planning and of storing, of
the first plan (which counts tokens and fits) and of the second in the same process.
"""

from tests import environment  # isort: skip  # first: it names the home before Django reads its settings

import json
import random
import shutil
import sys
import time
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from experiments import planning
from experiments.conditions import Metric
from experiments.models import Observation
from experiments.shapes import describe
from scheduler.models import Device
from scheduler.outlook import LabSchedule
from tests.factories import make_device, make_node
from tests.lab import REPOSITORY

CPU = "CPU slot"


def main() -> int:
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    observations = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    call_command("migrate", verbosity=0)
    shutil.copytree(REPOSITORY / "experiments/demo/models", settings.MODEL_ROOTS[0], dirs_exist_ok=True)
    settings.DATASET_ROOTS[0].mkdir(parents=True, exist_ok=True)
    make_device(node=make_node(), kind=Device.Kind.CPU, model_name=CPU, memory_mib=8192)
    Observation.objects.bulk_create(_observations(observations), batch_size=1000)
    print(f"{cells} cells, {observations} observations, home {environment.HOME}")
    for name in ("first", "second"):
        _timed(name, _document(cells, name))
    return 0


def _timed(name: str, data: dict[str, Any]) -> None:
    began = time.perf_counter()
    plan = planning.plan(data=data, user=None, now=timezone.now())
    planned = time.perf_counter()
    planning.store(plan=plan, user=None, now=timezone.now())
    stored = time.perf_counter()
    graded = {row["estimates"]["seconds"]["grade"] for row in plan.rows}
    print(f"{name}: plan {planned - began:.2f} s, store {stored - planned:.2f} s, grades {sorted(graded)}")


def _document(cells: int, name: str) -> dict[str, Any]:
    rates = [round(1e-4 + 1e-6 * number, 6) for number in range(-(-cells // 10))]
    return {
        "name": f"speed-{name}",
        "dataset": {"generator": "capitalization", "word_length": 5, "words": 2000},
        "factors": {
            "model": ["tiny-llama-s", "tiny-llama-m"],
            "lora_rank": [4, 8, 16, 32, 64],
            "learning_rate": rates,
        },
        "fixed": {"batch_size": 4, "epochs": 2, "max_seq_len": 128, "packed": False},
        "validation": False,
        "evaluation": {"split": "test"},
    }


def _observations(count: int) -> list[Observation]:
    demo = [json.loads(path.read_text()) for path in sorted(settings.MODEL_ROOTS[0].glob("*/config.json"))]
    made_up = [f"llama h{64 * n} l4 q4 kv2 i512 v320 tied" for n in range(1, 9)]
    shapes = [*(describe(config) for config in demo), *made_up]
    rng = random.Random(0)
    installed = LabSchedule().fleet().software.split(", ")
    software = ", ".join(name for name in installed if name.startswith(("torch ", "torchao ", "torchtune ")))
    return [_observation(number, rng, shapes[number % len(shapes)], software) for number in range(count)]


def _observation(number: int, rng: random.Random, shape: str, software: str) -> Observation:
    batch = rng.choice([1, 2, 4, 8])
    tokens = batch * rng.uniform(20, 60)
    memory = number % 2
    metric = Metric.PEAK_DEVICE_MEMORY_MIB if memory else Metric.SECONDS_PER_STEP
    value = 500 + 0.5 * tokens if memory else 0.01 + 1e-4 * tokens
    return Observation(
        metric=metric,
        value=value * rng.uniform(0.97, 1.03),
        unit="MiB" if memory else "s",
        model_shape=shape,
        recipe="lora_finetune_single_device",
        precision="fp32",
        lora_rank=rng.choice([4, 16, 64]),
        lora_modules="q_proj,k_proj,v_proj,output_proj,mlp",
        trainable_parameters=10_000,
        optimizer="AdamW",
        compiled=False,
        activation_checkpointing=False,
        activation_offloading=False,
        attention="sdpa",
        loss_chunks=8,
        batch_size=batch,
        gradient_accumulation_steps=1,
        max_seq_len=128,
        packed=False,
        tokens_per_step=tokens,
        squares_per_step=tokens**2 / batch,
        longest_batch_tokens=round(tokens * 1.2),
        device_kind=CPU if number % 3 else "another CPU",
        world_size=1,
        cpu_threads=1,
        software=software,
        source_file="made up",
        fingerprint=f"{number:064d}",
        observed_at=timezone.now(),
    )


if __name__ == "__main__":
    sys.exit(main())
