"""Made-up conditions and facts for the tests of estimates."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from experiments.conditions import Conditions, Metric
from experiments.estimation import Fact

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
ONE_B = "llama h2048 l16 q32 kv8 i8192 v128256 tied"
THREE_B = "llama h3072 l28 q24 kv8 i8192 v128256 tied"
PARAMETERS_OF_RANK_ONE = {ONE_B: 100_000, THREE_B: 200_000}
_ids = count(1)


def conditions(
    *,
    batch_size: int = 4,
    length: float = 100.0,
    rank: int = 16,
    gradient_accumulation_steps: int = 1,
    packed: bool = False,
    model_shape: str = ONE_B,
    **fields: Any,
) -> Conditions:
    """Of a LoRA fine-tune whose batches are all padded to `length` tokens."""
    tokens = batch_size * gradient_accumulation_steps * length
    made = Conditions(
        model_name="Llama",
        model_shape=model_shape,
        recipe="lora_finetune_single_device",
        precision="bf16",
        lora_rank=rank,
        lora_modules="q_proj,v_proj",
        trainable_parameters=rank * PARAMETERS_OF_RANK_ONE.get(model_shape, 150_000),
        optimizer="AdamW",
        compiled=False,
        activation_checkpointing=False,
        activation_offloading=False,
        attention="sdpa",
        loss_chunks=8,
        rows=8000,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        max_seq_len=512,
        packed=packed,
        epochs=2,
        steps_per_epoch=1000,
        tokens_per_step=tokens,
        squares_per_step=tokens * length,
        longest_batch_tokens=round(batch_size * length),
        longest_sequence=round(length),
        device_kind="NVIDIA H100",
        device_memory_mib=80_000,
        world_size=1,
        cpu_threads=8,
        co_runners=0,
        software="torch 2.13.0",
    )
    return replace(made, **fields)


def fact(metric: str, value: float, under: Conditions, *, run: object = None, **fields: Any) -> Fact:
    """Of a run of its own, if none is named."""
    number = next(_ids)
    return Fact(
        id=number,
        metric=metric,
        value=value,
        run_key=f"run {number if run is None else run}",
        conditions=under,
        observed_at=NOW + timedelta(seconds=number),
        **fields,
    )


def step(seconds: float, **fields: Any) -> Fact:
    return fact(Metric.SECONDS_PER_STEP, seconds, conditions(**fields))


def peak(mib: float, *, bound: bool = False, **fields: Any) -> Fact:
    return fact(Metric.PEAK_DEVICE_MEMORY_MIB, mib, conditions(**fields), is_bound=bound)


def told(metric: str, value: float, **said: Any) -> Fact:
    return fact(metric, value, Conditions(**said), is_told=True)
