"""What moves a figure: the conditions under which something was measured, told, or is to be estimated.

Every field is optional, because a log says only so much. What is unknown is None (or empty), never a guess, and
a metric that needs it is then incomplete: it is stored, shown with what is missing, and used for nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Metric(StrEnum):
    """What is measured of runs and estimated of plans. Scores of evaluations have names of their own."""

    SECONDS_PER_STEP = "seconds_per_step"  # an optimizer step, without checkpoints and validation
    STARTUP_SECONDS = "startup_seconds"  # from the launch to the first step's beginning
    CHECKPOINT_SECONDS = "checkpoint_seconds"  # a save, and for the last epoch the end of the process, too
    VALIDATION_SECONDS = "validation_seconds"  # one pass over the validation batches
    JOB_SECONDS = "job_seconds"  # a whole job
    PEAK_DEVICE_MEMORY_MIB = "peak_device_memory_mib"  # what the device must have free
    PEAK_HOST_MEMORY_MIB = "peak_host_memory_mib"  # of the whole process tree
    MEMORY_AFTER_INIT_MIB = "memory_after_init_mib"  # the weights; never a peak
    CHECKPOINT_DISK_MIB = "checkpoint_disk_mib"  # what one epoch's checkpoint takes
    ENGINE_STARTUP_SECONDS = "engine_startup_seconds"
    SECONDS_PER_PREDICTION = "seconds_per_prediction"
    FINAL_LOSS = "final_loss"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """One field for each column of an observation that is a condition; the names are the same."""

    # what was trained or scored
    model_name: str = ""
    model_shape: str = (
        ""  # experiments.shapes.describe(config): what memory and time depend on, not the weights
    )
    parameter_count: int | None = None
    recipe: str = ""
    precision: str = ""  # fp32, bf16
    lora_rank: int | None = None  # None for a full fine-tune and for a base model
    lora_modules: str = ""  # "q_proj,k_proj,v_proj,output_proj,mlp"; "" where there is no adapter
    trainable_parameters: int | None = None
    optimizer: str = ""  # the component's last word: AdamW, SGD
    compiled: bool | None = None
    activation_checkpointing: bool | None = None
    activation_offloading: bool | None = None
    attention: str = ""  # sdpa, flex
    loss_chunks: int | None = None

    # on what
    rows: int | None = None  # samples, or packs when packed
    batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    max_seq_len: int | None = None
    packed: bool | None = None
    epochs: int | None = None
    max_steps_per_epoch: int | None = None  # None also where there is no cap; see has_step_cap
    has_step_cap: bool | None = None
    steps_per_epoch: int | None = None
    tokens_per_step: float | None = None  # mean of padded tokens in an optimizer step, all its micro-batches
    squares_per_step: float | None = None  # mean of sum(batch * length^2) in an optimizer step
    longest_batch_tokens: int | None = None  # the largest batch_size * padded length of one micro-batch
    longest_sequence: int | None = None  # the padded length of that batch

    # by what
    device_kind: str = ""  # the device's model name: "NVIDIA H100 80GB HBM3", "AMD EPYC ..."
    device_memory_mib: int | None = None
    world_size: int | None = None
    cpu_threads: int | None = None
    co_runners: int | None = None
    software: str = ""  # "torch 2.13.0, torchtune 0.6.1"; see software_of


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Conditions))

TEXT_LIMITS: Mapping[str, int] = {  # characters that the columns hold
    "model_name": 200,
    "model_shape": 120,
    "recipe": 100,
    "precision": 10,
    "lora_modules": 200,
    "optimizer": 60,
    "attention": 20,
    "device_kind": 200,
    "software": 300,
}

_TRAINED = ("model_shape", "recipe", "precision", "device_kind", "world_size", "software")
_BATCHED = ("batch_size", "gradient_accumulation_steps", "max_seq_len", "packed")
_OPTIONS = ("optimizer", "compiled", "activation_checkpointing")

REQUIRED: Mapping[str, tuple[str, ...]] = {
    Metric.SECONDS_PER_STEP: (*_TRAINED, *_BATCHED, *_OPTIONS, "tokens_per_step", "cpu_threads"),
    Metric.PEAK_DEVICE_MEMORY_MIB: (
        *_TRAINED,
        *_BATCHED,
        *_OPTIONS,
        "trainable_parameters",
        "longest_batch_tokens",
    ),
    Metric.PEAK_HOST_MEMORY_MIB: (*_TRAINED, *_BATCHED, *_OPTIONS),
    Metric.JOB_SECONDS: ("device_kind",),
    Metric.STARTUP_SECONDS: ("model_shape", "device_kind", "recipe"),
    Metric.CHECKPOINT_SECONDS: ("model_shape", "device_kind", "recipe"),
    Metric.VALIDATION_SECONDS: (*_TRAINED, "batch_size"),
    Metric.MEMORY_AFTER_INIT_MIB: ("model_shape", "precision", "device_kind"),
    Metric.CHECKPOINT_DISK_MIB: ("model_shape", "recipe"),
    Metric.ENGINE_STARTUP_SECONDS: ("model_shape", "device_kind"),
    Metric.SECONDS_PER_PREDICTION: ("model_shape", "device_kind"),
}


_OF_AN_EVALUATION = ("model_shape", "device_kind")  # nothing is trained, whatever the metric
# What stands for the recipe where nothing is trained: whole weights, or an adapter, through which it is much slower.
EVALUATE, EVALUATE_ADAPTER = "evaluate", "evaluate_adapter"


def missing(metric: str, conditions: Conditions) -> tuple[str, ...]:
    """The conditions that this metric needs and that are not known."""
    needed = REQUIRED.get(metric, ())
    if needed and conditions.recipe in (EVALUATE, EVALUATE_ADAPTER):
        needed = _OF_AN_EVALUATION
    return tuple(name for name in needed if getattr(conditions, name) in (None, ""))


def software_of(versions: Mapping[str, str]) -> str:
    """Versions of what moves a figure, in one comparable text."""
    return ", ".join(f"{name} {versions[name]}" for name in sorted(versions))


def to_columns(conditions: Conditions) -> dict[str, Any]:
    return {name: getattr(conditions, name) for name in FIELDS}


def from_columns(row: object) -> Conditions:
    """The conditions of an observation's row."""
    return Conditions(**{name: getattr(row, name) for name in FIELDS})
