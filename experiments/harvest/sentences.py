"""Why an observation is incomplete, in words."""

from collections.abc import Iterable
from pathlib import PurePath

from experiments.conditions import Conditions
from experiments.models import Observation
from experiments.steps import steps_per_epoch

_WORDS = {
    "packed": "whether it was packed",
    "gradient_accumulation_steps": "the gradient accumulation",
    "tokens_per_step": "the tokens in a step",
    "longest_batch_tokens": "the longest batch",
    "model_shape": "the model's shape",
    "device_kind": "the device",
    "device_memory_mib": "how much memory the device has",
    "world_size": "the number of devices",
    "compiled": "whether it was compiled",
    "activation_checkpointing": "whether activations were checkpointed",
}


def not_known(names: Iterable[str]) -> str:
    listed = [_WORDS.get(name, name.replace("_", " ")) for name in names]
    return f"It is not known: {', '.join(listed)}."


def contradiction(conditions: Conditions) -> str:
    """Where rows, batch and packing are known and the steps are not what torchtune would take; else empty."""
    known = (conditions.rows, conditions.batch_size, conditions.steps_per_epoch)
    if conditions.packed is not False or None in known or conditions.has_step_cap:
        return ""
    rows, batch_size, steps = known
    assert rows and batch_size and steps is not None
    accumulation = conditions.gradient_accumulation_steps or 1
    expected = steps_per_epoch(
        rows=rows,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        world_size=conditions.world_size or 1,
    )
    if steps == expected:
        return ""
    return (
        f"Its log shows {steps:,} steps an epoch, where {rows:,} rows at batch size {batch_size} with "
        f"{accumulation} accumulation step{'s' if accumulation > 1 else ''}, unpacked, would give {expected:,}: "
        "packed, accumulated or capped?"
    )


def unused(observation: Observation) -> str:
    """What a plan says of an observation that it could not use."""
    line = f" line {observation.source_line}" if observation.source_line else ""
    source = f"{PurePath(observation.source_file).name}{line}"
    return (
        f"Observation {observation.pk} ({observation.metric} {observation.value:.4g} {observation.unit}, {source}) "
        f"was not used. {observation.incomplete_because}"
    )
