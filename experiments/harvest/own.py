"""From a run's measurements to observations. Twice is the same as once."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from experiments import run_conditions
from experiments.conditions import Conditions, Metric, missing, to_columns
from experiments.harvest.sentences import not_known
from experiments.models import Observation, Run
from experiments.run_conditions import Place
from experiments.specs import EvaluateSpec, FinetuneSpec, Measurement, ProbeSpec


def store(*, run: Run, job_id: int, measurements: Iterable[Measurement], place: Place, now: datetime) -> int:
    """Keep what was measured of a run; returns how many observations are new."""
    rows = observe(run=run, job_id=job_id, measurements=measurements, place=place, now=now)
    known = set(
        Observation.objects.filter(fingerprint__in=[row.fingerprint for row in rows]).values_list(
            "fingerprint", flat=True
        )
    )
    Observation.objects.bulk_create(rows, ignore_conflicts=True)
    Run.every.filter(pk=run.pk).update(harvested_at=now)
    return len({row.fingerprint for row in rows} - known)


def observe(
    *, run: Run, job_id: int, measurements: Iterable[Measurement], place: Place, now: datetime
) -> list[Observation]:
    """What a job measured of a run, as rows that are not kept yet. Raises ValueError for what no row can hold."""
    conditions = conditions_of(run, place)
    return [_observation(run, job_id, measurement, conditions, now) for measurement in measurements]


def keep(
    *, observations: Iterable[Observation], run_ids: Collection[int], job_ids: Iterable[int], now: datetime
) -> None:
    """Keep what was observed of these runs, if anything, where these jobs still speak for them."""
    Observation.objects.bulk_create(observations, ignore_conflicts=True)
    if run_ids:
        Run.every.filter(pk__in=run_ids, fencing_token__in=list(job_ids)).update(harvested_at=now)


def conditions_of(run: Run, place: Place) -> Conditions:
    """Under which conditions the run ran."""
    base = run.cell.base_model
    config = base.config if base else {}
    spec = run.parsed_spec
    if isinstance(spec, ProbeSpec):
        spec = spec.finetune
    if isinstance(spec, FinetuneSpec):
        return run_conditions.of_finetune(spec=spec, config=config, place=place)
    if isinstance(spec, EvaluateSpec):
        return run_conditions.of_evaluation(spec=spec, config=config, place=place)
    return Conditions(
        device_kind=place.device_kind, world_size=place.world_size, cpu_threads=place.cpu_threads
    )


def _observation(
    run: Run, job_id: int, measurement: Measurement, conditions: Conditions, now: datetime
) -> Observation:
    lacking = missing(measurement.metric, conditions)
    if measurement.metric == Metric.VALIDATION_SECONDS:
        conditions = replace(conditions, rows=_validation_rows(run))
    return Observation(
        run=run,
        metric=measurement.metric,
        value=measurement.value,
        unit=measurement.unit,
        is_bound=measurement.is_bound,
        is_complete=not lacking,
        incomplete_because=not_known(lacking) if lacking else "",
        base_model=run.cell.base_model,
        source_file=measurement.source_file,
        source_line=measurement.source_line,
        fingerprint=_fingerprint(run.pk, job_id, measurement),
        observed_at=now,
        **to_columns(conditions),
    )


def _validation_rows(run: Run) -> int | None:
    """A pass takes as long as it has rows to look at."""
    spec = run.parsed_spec
    return spec.validation.rows if isinstance(spec, FinetuneSpec) and spec.validation else None


def _fingerprint(run_id: int, job_id: int, measurement: Measurement) -> str:
    source = f"{run_id} {job_id} {measurement.metric} {measurement.source_file} {measurement.source_line}"
    return hashlib.sha256(source.encode()).hexdigest()
