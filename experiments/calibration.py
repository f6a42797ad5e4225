"""What was observed becomes evidence, what was fitted to it becomes rows, and estimates meet what then happened."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from experiments.conditions import FIELDS, Conditions, Metric
from experiments.estimation import SECONDS, Evidence, Fact, LogError
from experiments.estimation.calibrated import Fitted, Unfitted, groups
from experiments.models import Calibration, Estimate, Observation, Run
from experiments.states import RunState

_ESTIMATED = [str(metric) for metric in Metric if metric not in (Metric.FINAL_LOSS, Metric.JOB_SECONDS)]
_OF_A_FACT = ("id", "metric", "value", "is_bound", "told_by", "run_id", "source_file", "observed_at")
_PEAKS = (Metric.PEAK_DEVICE_MEMORY_MIB, Metric.PEAK_HOST_MEMORY_MIB)


@dataclass(frozen=True, kw_only=True)
class PlannerError:
    """How far estimates of one kind were off, of finished runs."""

    metric: str
    grade: str
    n: int
    mean_absolute_error: float  # of estimate over actual - 1
    bias: float  # mean of estimate over actual - 1: above 0, too much was said


def evidence(*, shapes: Collection[str] | None = None) -> Evidence:
    """All complete observations, or those of these models; and how far earlier estimates were off."""
    rows = Observation.objects.filter(is_complete=True, metric__in=_ESTIMATED)
    if shapes is not None:
        rows = rows.filter(model_shape__in=shapes)
    known: dict[tuple[object, ...], Conditions] = {}
    facts = [_fact(row, known) for row in rows.order_by().values_list(*_OF_A_FACT, *FIELDS)]
    return Evidence(facts, _errors())


def refit(*, now: datetime, shapes: Collection[str] | None = None) -> int:
    """Bring the calibrations, of these models or of all, up to date; returns how many were fitted anew.

    One whose observations are the same is left alone, and one whose group is gone goes.
    """
    found = {_key(group): group for group in groups(evidence(shapes=shapes))}
    existing = Calibration.objects.all()
    if shapes is not None:
        existing = existing.filter(model_shape__in=shapes)
    fitted_to = _observations_of(existing)
    changed = {
        key: fitted
        for key, group in found.items()
        if fitted_to.get(key) != set(group.observations) and (fitted := group.fitted())
    }
    with transaction.atomic():
        existing.exclude(key__in=found).delete()
        for key, fitted in changed.items():
            _store(key, fitted, now)
    return len(changed)


def compare(*, run: Run, now: datetime) -> int:
    """Set what was measured of a run that succeeded beside what was estimated of it, once; returns how many."""
    if run.state != RunState.SUCCEEDED:
        return 0
    actual = _actual(run)
    return sum(
        Estimate.objects.filter(run=run, metric=metric, compared_at__isnull=True).update(
            actual=value, compared_at=now
        )
        for metric, value in actual.items()
    )


def planner_error() -> list[PlannerError]:
    """The running error of the lab's own planner, by figure and grade."""
    ratios: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for metric, grade, log_error in _errors():
        ratios[metric, grade].append(math.exp(-log_error) - 1)
    return [
        PlannerError(
            metric=metric,
            grade=grade,
            n=len(errors),
            mean_absolute_error=sum(map(abs, errors)) / len(errors),
            bias=sum(errors) / len(errors),
        )
        for (metric, grade), errors in sorted(ratios.items())
    ]


def _fact(row: tuple[object, ...], known: dict[tuple[object, ...], Conditions]) -> Fact:
    """Facts of the same conditions share them: to make ten thousand anew would take longer than to read them."""
    id_, metric, value, is_bound, told_by, run_id, source_file, observed_at = row[: len(_OF_A_FACT)]
    columns = row[len(_OF_A_FACT) :]
    conditions = known.get(columns)
    if conditions is None:
        conditions = known[columns] = Conditions(**dict(zip(FIELDS, columns, strict=True)))  # type: ignore[arg-type]
    return Fact(
        id=id_,  # type: ignore[arg-type]
        metric=metric,  # type: ignore[arg-type]
        value=value,  # type: ignore[arg-type]
        is_bound=is_bound,  # type: ignore[arg-type]
        is_told=bool(told_by),
        run_key=f"run {run_id}" if run_id else f"file {source_file}",
        conditions=conditions,
        observed_at=observed_at,  # type: ignore[arg-type]
    )


def _errors() -> list[LogError]:
    compared = Estimate.objects.filter(compared_at__isnull=False, value__gt=0, actual__gt=0)
    return [
        (metric, grade, math.log(actual / value))
        for metric, grade, actual, value in compared.values_list("metric", "grade", "actual", "value")
        if actual and value
    ]


def _key(group: Unfitted) -> str:
    """Of the shared conditions and of the terms that are fitted: other terms make another calibration."""
    text = json.dumps([group.metric, dict(group.shared), group.terms], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _observations_of(calibrations: Iterable[Calibration]) -> dict[str, set[int]]:
    links = Calibration.observations.through.objects.filter(calibration__in=calibrations)
    fitted_to: defaultdict[str, set[int]] = defaultdict(set)
    for key, observation in links.values_list("calibration__key", "observation_id"):
        fitted_to[key].add(observation)
    return fitted_to


def _store(key: str, fitted: Fitted, now: datetime) -> None:
    row, _ = Calibration.objects.update_or_create(
        key=key,
        defaults={
            "metric": fitted.metric,
            "shared": dict(fitted.shared),
            "model_shape": fitted.shared.get("model_shape", ""),
            "model_name": fitted.model_name,
            "device_kind": fitted.shared.get("device_kind", ""),
            "coefficients": dict(fitted.coefficients),
            "left_out": list(fitted.left_out),
            "error_ratio": fitted.error_ratio,
            "runs_count": fitted.runs,
            "valid_from": dict(fitted.valid_from),
            "valid_to": dict(fitted.valid_to),
            "fitted_at": now,
        },
    )
    row.observations.set(fitted.observations)


def _actual(run: Run) -> dict[str, float]:
    """What was measured of it: of its job's time the last launch, of a peak the highest, else the mean."""
    measured: defaultdict[str, list[float]] = defaultdict(list)
    rows = run.observations.filter(is_bound=False, is_complete=True, told_by="").order_by("observed_at", "id")
    for metric, value in rows.values_list("metric", "value"):
        measured[metric].append(value)
    actual = {metric: _one(metric, values) for metric, values in measured.items()}
    if Metric.JOB_SECONDS in actual:
        actual[SECONDS] = actual[Metric.JOB_SECONDS]
    return actual


def _one(metric: str, values: list[float]) -> float:
    if metric in _PEAKS:
        return max(values)
    return values[-1] if metric == Metric.JOB_SECONDS else sum(values) / len(values)
