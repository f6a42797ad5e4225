"""What people say: figures that they tell, and the conditions of observations whose source does not say them."""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import transaction

from experiments.conditions import Conditions, Metric, from_columns, missing, to_columns
from experiments.documents import InvalidDocument, Problem, nearest
from experiments.harvest import contradiction, not_known
from experiments.models import BaseModel, Observation
from experiments.saying import ALIASES, conditions_said
from experiments.shapes import lora_parameters

UNITS: Mapping[str, str] = {
    Metric.SECONDS_PER_STEP: "s",
    Metric.STARTUP_SECONDS: "s",
    Metric.CHECKPOINT_SECONDS: "s",
    Metric.VALIDATION_SECONDS: "s",
    Metric.ENGINE_STARTUP_SECONDS: "s",
    Metric.SECONDS_PER_PREDICTION: "s",
    Metric.PEAK_DEVICE_MEMORY_MIB: "MiB",
    Metric.PEAK_HOST_MEMORY_MIB: "MiB",
    Metric.CHECKPOINT_DISK_MIB: "MiB",
}
OUT_OF_MEMORY = 0.0  # a bound whose figure, the memory of the device, its source does not tell
_NEEDED = {Metric.SECONDS_PER_STEP: ("batch_size", "packed"), Metric.PEAK_DEVICE_MEMORY_MIB: ("batch_size",)}
_SUFFIXES: Mapping[str, Callable[[float], float]] = {
    "it/s": lambda value: 1 / value,
    "s/it": float,
    "s": float,
    "GiB": lambda value: value * 1024,
}


def tell(*, metric: str, value: float | str, said: Mapping[str, Any], by: str, now: datetime) -> Observation:
    """Keep a figure that a person tells; it is graded as told. Raises InvalidDocument.

    `value` is a number in the metric's unit, or a text such as 4.34it/s. `said` are conditions; what is not said is
    taken to match what it is asked for.
    """
    amount = _amount(metric, value)
    conditions, base = known_model(replace(Conditions(), **conditions_said(said)))
    lacking = [name for name in _NEEDED.get(Metric(metric), ()) if getattr(conditions, name) is None]
    if not (conditions.model_name or conditions.model_shape):
        lacking.insert(0, "model")
    if lacking:
        message = f"{metric} says nothing without {', '.join(lacking)}."
        raise InvalidDocument([Problem(name, message, f"Add --set {name}=...") for name in lacking[:1]])
    return Observation.objects.create(
        metric=metric,
        value=amount,
        unit=UNITS[metric],
        base_model=base,
        told_by=by,
        said=dict(said),
        source_file=f"told by {by}",
        fingerprint=_fingerprint(metric, amount, said, by, now),
        observed_at=now,
        **to_columns(conditions),
    )


def incomplete_ones(*, ids: Collection[int], tree: str) -> list[Observation]:
    """Those of these ids, or of all that were harvested with this path, of which something is not known."""
    rows = Observation.objects.filter(is_complete=False)
    return list(rows.filter(source_tree=tree) if tree else rows.filter(pk__in=ids))


@transaction.atomic
def complete(*, observations: Iterable[Observation], said: Mapping[str, Any], by: str, now: datetime) -> int:
    """Say conditions that the sources of observations do not; returns how many are complete by it.

    What was read from a source is never overwritten. Raises InvalidDocument for values that do not fit, and for
    conditions that contradict what a log shows; nothing is changed then.
    """
    values = conditions_said(said)
    changed = [with_said(observation, values, said, by) for observation in observations]
    problems = [
        Problem(f"observation {row.pk}", row.incomplete_because, "Say the other conditions, too.")
        for row in changed
        if contradiction(from_columns(row))
    ]
    if problems:
        raise InvalidDocument(problems)
    for row in changed:
        row.changed_at = now
        row.save()
    return sum(row.is_complete for row in changed)


def with_said(
    observation: Observation, values: Mapping[str, Any], said: Mapping[str, Any], by: str
) -> Observation:
    """The observation, not saved yet, with the conditions that were empty filled in by what was said."""
    conditions = from_columns(observation)
    taken = {name: value for name, value in values.items() if getattr(conditions, name) in (None, "")}
    conditions, base = known_model(replace(conditions, **taken))
    for name, value in to_columns(conditions).items():
        setattr(observation, name, value)
    observation.base_model = observation.base_model or base
    if taken:
        observation.completed_by = by
        kept = {key: value for key, value in said.items() if ALIASES.get(key, key) in taken}
        observation.said = {**observation.said, **kept}
    judge(observation)
    return observation


def judge(observation: Observation) -> None:
    """Say whether enough is known of it, and if not, what is lacking."""
    conditions = from_columns(observation)
    lacking = missing(observation.metric, conditions)
    if observation.is_bound and observation.value == OUT_OF_MEMORY:
        # It would have taken more than the device has.
        observation.value = float(conditions.device_memory_mib or OUT_OF_MEMORY)
        lacking += () if conditions.device_memory_mib else ("device_memory_mib",)
    observation.incomplete_because = contradiction(conditions) or (not_known(lacking) if lacking else "")
    observation.is_complete = not observation.incomplete_because


def known_model(conditions: Conditions) -> tuple[Conditions, BaseModel | None]:
    """What the lab knows of a model by its name: its shape, its size, and what its adapters train."""
    base = BaseModel.objects.filter(name=conditions.model_name).first() if conditions.model_name else None
    if base is None:
        return conditions, None
    return _with_adapter(
        replace(
            conditions,
            model_shape=conditions.model_shape or base.shape,
            parameter_count=conditions.parameter_count or base.parameter_count,
        ),
        base,
    ), base


def _with_adapter(conditions: Conditions, base: BaseModel) -> Conditions:
    rank, modules = conditions.lora_rank, conditions.lora_modules
    if conditions.trainable_parameters is not None or rank is None or not modules:
        return conditions
    trained = lora_parameters(base.config, rank=rank, modules=modules.split(","))
    return replace(conditions, trainable_parameters=trained)


def _amount(metric: str, value: float | str) -> float:
    if metric not in UNITS:
        raise InvalidDocument(
            [Problem("metric", f"There is no figure {metric!r}.", nearest(metric, map(str, UNITS)))]
        )
    text = str(value).replace(" ", "")
    suffix = next((known for known in _SUFFIXES if text.endswith(known)), "")
    if suffix == "GiB" and UNITS[metric] != "MiB" or suffix in ("it/s", "s/it", "s") and UNITS[metric] != "s":
        raise InvalidDocument(
            [Problem("value", f"{value!r} is not in {UNITS[metric]}.", "Correct the unit.")]
        )
    try:
        number = float(text.removesuffix(suffix).removesuffix("MiB") if suffix or "MiB" in text else text)
        amount = _SUFFIXES[suffix](number) if suffix else number
    except (ValueError, ZeroDivisionError):
        amount = math.nan
    if not math.isfinite(amount) or amount <= 0:
        message = f"{value!r} is no figure in {UNITS[metric]}."
        raise InvalidDocument([Problem("value", message, "Give a number above 0, such as 0.23 or 4.34it/s.")])
    return amount


def _fingerprint(metric: str, value: float, said: Mapping[str, Any], by: str, now: datetime) -> str:
    text = json.dumps([metric, value, dict(said), by, now.isoformat()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
