"""From a run's measurements to observations. Twice is the same as once."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from experiments.conditions import software_of
from experiments.models import Observation, Run
from experiments.specs import FinetuneSpec, Measurement


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What moves a figure and only the place where it was measured knows."""

    device_kind: str
    precision: str = ""
    world_size: int = 1
    cpu_threads: int = 1
    co_runners: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


def store(
    *, run: Run, job_id: int, measurements: Iterable[Measurement], conditions: Conditions, now: datetime
) -> int:
    """Keep what a job measured of a run; returns how many observations are new."""
    rows = [_observation(run, job_id, measurement, conditions, now) for measurement in measurements]
    known = set(
        Observation.objects.filter(fingerprint__in=[row.fingerprint for row in rows]).values_list(
            "fingerprint", flat=True
        )
    )
    Observation.objects.bulk_create(rows, ignore_conflicts=True)
    Run.objects.filter(pk=run.pk).update(harvested_at=now)
    return len({row.fingerprint for row in rows} - known)


def _observation(
    run: Run, job_id: int, measurement: Measurement, conditions: Conditions, now: datetime
) -> Observation:
    return Observation(
        run=run,
        metric=measurement.metric,
        value=measurement.value,
        unit=measurement.unit,
        is_bound=measurement.is_bound,
        base_model=run.cell.base_model,
        device_kind=conditions.device_kind,
        precision=conditions.precision,
        world_size=conditions.world_size,
        cpu_threads=conditions.cpu_threads,
        co_runners=conditions.co_runners,
        software=software_of(conditions.versions),
        source_file=measurement.source_file,
        source_line=measurement.source_line,
        fingerprint=_fingerprint(run.pk, job_id, measurement),
        observed_at=now,
        **_training_conditions(run),
    )


def _training_conditions(run: Run) -> dict[str, Any]:
    spec = run.parsed_spec
    if not isinstance(spec, FinetuneSpec):
        return {}
    return {
        "recipe": spec.recipe,
        "lora_rank": spec.lora_rank,
        "batch_size": spec.batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation_steps,
        "max_seq_len": spec.max_seq_len,
        "packed": spec.packed,
    }


def _fingerprint(run_id: int, job_id: int, measurement: Measurement) -> str:
    source = f"{run_id} {job_id} {measurement.metric} {measurement.source_file} {measurement.source_line}"
    return hashlib.sha256(source.encode()).hexdigest()
