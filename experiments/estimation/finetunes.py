"""What a fine-tune takes: time = start-up + epochs * (steps + validations + checkpoint), memory, disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.conditions import Conditions, Metric
from experiments.estimation.choosing import figure, with_interval
from experiments.estimation.evidence import Evidence
from experiments.estimation.features import trainable_parameters
from experiments.estimation.forms import BYTES_OF, MIB
from experiments.figures import Figure, Grade, exact, no_evidence, worst

SECONDS = "seconds"  # the figure of a whole run, that its job's seconds are compared with
_NAMES = {
    "startup_seconds": "start-up",
    "training_seconds": "training",
    "checkpoint_seconds": "checkpoints",
    "validation_seconds": "validation",
}


@dataclass(frozen=True, kw_only=True)
class FinetuneEstimate:
    seconds: Figure  # of the whole run
    parts: Mapping[str, Figure]  # of the whole run, too: training_, startup_, checkpoint_, validation_seconds
    seconds_per_step: Figure
    peak_device_memory_mib: Figure
    peak_host_memory_mib: Figure
    disk_mib: Figure


def finetune(
    evidence: Evidence,
    conditions: Conditions,
    *,
    validations_per_epoch: int = 0,
    validation_rows: int | None = None,
    checkpoints_kept: int | None = None,
) -> FinetuneEstimate:
    """`checkpoints_kept`: as many as there are epochs, if it is not said."""
    seconds_per_step = figure(evidence, conditions, Metric.SECONDS_PER_STEP)
    validation_conditions = replace(conditions, rows=validation_rows)
    parts = {
        "training_seconds": _training(evidence, conditions, seconds_per_step),
        "startup_seconds": figure(evidence, conditions, Metric.STARTUP_SECONDS),
        "checkpoint_seconds": _times(
            figure(evidence, conditions, Metric.CHECKPOINT_SECONDS), conditions.epochs, "epochs"
        ),
        "validation_seconds": _validation(
            figure(evidence, validation_conditions, Metric.VALIDATION_SECONDS),
            conditions,
            validations_per_epoch,
        ),
    }
    return FinetuneEstimate(
        seconds=with_interval(evidence, SECONDS, total(parts, essential="training_seconds")),
        parts=parts,
        seconds_per_step=seconds_per_step,
        peak_device_memory_mib=figure(evidence, conditions, Metric.PEAK_DEVICE_MEMORY_MIB),
        peak_host_memory_mib=figure(evidence, conditions, Metric.PEAK_HOST_MEMORY_MIB),
        disk_mib=_disk(evidence, conditions, checkpoints_kept),
    )


def total(parts: Mapping[str, Figure], *, essential: str) -> Figure:
    """The sum of the parts that are known, as good as the worst of them; the note names the others.

    Without the essential part it would be taken for more than it is, and is no evidence.
    """
    unknown = [_NAMES.get(name, name) for name, part in parts.items() if part.value is None]
    note = "; ".join(f"{name}: no evidence" for name in unknown)
    if parts[essential].value is None:
        return no_evidence(note)
    estimated = [part for part in parts.values() if part.n]
    return Figure(
        value=sum(part.value or 0.0 for part in parts.values()),
        grade=worst(part.grade for part in estimated),
        n=min(part.n for part in estimated),
        observations=tuple(dict.fromkeys(id_ for part in estimated for id_ in part.observations)),
        note=note,
    )


def _training(evidence: Evidence, conditions: Conditions, seconds_per_step: Figure) -> Figure:
    steps = conditions.steps_per_epoch
    epochs = conditions.epochs
    if steps is None or epochs is None:
        return no_evidence("How many steps it takes is not known.")
    return _times(seconds_per_step, steps * epochs, "steps")


def _validation(one_pass: Figure, conditions: Conditions, validations_per_epoch: int) -> Figure:
    if validations_per_epoch == 0:
        return exact(0.0, "It does not validate.")
    epochs = conditions.epochs
    return _times(one_pass, epochs and epochs * validations_per_epoch, "validations")


def _times(one: Figure, count: int | None, of_what: str) -> Figure:
    if one.value is None:
        return replace(one, low=None)
    if count is None:
        return no_evidence(f"How many {of_what} there are is not known.")
    return replace(
        one,
        value=one.value * count,
        low=None if one.low is None else one.low * count,
        high=None if one.high is None else one.high * count,
    )


def _disk(evidence: Evidence, conditions: Conditions, checkpoints_kept: int | None) -> Figure:
    kept = conditions.epochs if checkpoints_kept is None else checkpoints_kept
    one = figure(evidence, conditions, Metric.CHECKPOINT_DISK_MIB)
    computed = _computed_checkpoint(conditions)
    is_better = computed.value is not None and one.grade != Grade.MEASURED
    return _times(computed if is_better else one, kept, "checkpoints")


def _computed_checkpoint(conditions: Conditions) -> Figure:
    """The weights that are trained, which is what a checkpoint has at least."""
    count, size = trainable_parameters(conditions), BYTES_OF.get(conditions.precision)
    if count is None or size is None:
        return no_evidence("No checkpoint of this model was measured, and its parameters are not known.")
    note = "Computed: the trained weights alone. What is copied beside them, such as the tokenizer, comes on top."
    value = count * size / MIB
    return Figure(value=value, low=value, grade=Grade.MEASURED, note=note)
