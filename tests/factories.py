"""Rows with sensible defaults. Every function takes keywords only; what is not said is made up."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db.models import Q

from experiments.figures import Figure, Grade
from experiments.models import (
    BaseModel,
    Cell,
    Dataset,
    Estimate,
    Experiment,
    Observation,
    Proposal,
    Run,
    RunEvent,
)
from experiments.specs import SimulatedSpec, spec_to_json
from experiments.states import CellType, JobState, RunKind, RunState
from scheduler.models import Device, Job, Launch, Lease, Node

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
PASSWORD = "a password for tests"
_numbers = count(1)


def make_user(
    *, username: str | None = None, permissions: list[str] | None = None, is_staff: bool = True, **fields: Any
) -> User:
    """A user with these permissions, each written `app.codename`."""
    user = User.objects.create_user(
        username or f"user{next(_numbers)}", password=PASSWORD, is_staff=is_staff, **fields
    )
    wanted = Q(pk__in=[])
    for permission in permissions or []:
        app, _, codename = permission.partition(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    found = list(Permission.objects.filter(wanted))
    assert len(found) == len(set(permissions or [])), f"unknown permission among {permissions}"
    user.user_permissions.set(found)
    return user


def make_experiment(*, name: str | None = None, approved: bool = False, **fields: Any) -> Experiment:
    name = name or f"experiment-{next(_numbers)}"
    defaults: dict[str, Any] = {
        "question": "Does it matter?",
        "document": {"name": name, "simulated": {"duration_seconds": 1}},
        "planned_at": NOW,
        "approved_at": NOW if approved else None,
    }
    return Experiment.objects.create(name=name, **defaults | fields)


def make_cell(*, experiment: Experiment | None = None, **fields: Any) -> Cell:
    experiment = experiment or make_experiment()
    number = next(_numbers)
    defaults: dict[str, Any] = {"index": number, "name": f"cell-{number}", "type": CellType.SIMULATED}
    return Cell.objects.create(experiment=experiment, **defaults | fields)


def make_run(*, cell: Cell | None = None, state: str = RunState.PLANNED, **fields: Any) -> Run:
    """A run in this state, with the columns and the event that the state implies."""
    defaults: dict[str, Any] = {
        "kind": RunKind.SIMULATED,
        "name": f"run-{next(_numbers)}",
        "spec": spec_to_json(SimulatedSpec(duration_seconds=1.0)),
        "limit_seconds": 60,
        **_implied_by(state),
    }
    run = Run.objects.create(cell=cell or make_cell(), state=state, **defaults | fields)
    RunEvent.objects.create(run=run, at=NOW, state=run.state, reason=run.reason, message=run.message)
    return run


def make_node(*, name: str | None = None, **fields: Any) -> Node:
    defaults: dict[str, Any] = {"host_memory_mib": 8192, "cpu_threads": 8, "session_renewed_at": NOW}
    return Node.objects.create(name=name or f"node{next(_numbers)}", **defaults | fields)


def make_device(*, node: Node | None = None, **fields: Any) -> Device:
    node = node or make_node()
    index = fields.pop("index", node.devices.count())
    kind = fields.pop("kind", Device.Kind.CPU)
    defaults: dict[str, Any] = {"uuid": f"{node.name}/{kind}/{index}", "memory_mib": 4096}
    return Device.objects.create(node=node, index=index, kind=kind, **defaults | fields)


def make_job(
    *,
    runs: list[Run] | None = None,
    devices: list[Device] | None = None,
    state: str = JobState.RUNNING,
    **fields: Any,
) -> Job:
    """A job that carries these runs and holds these devices, wholly, while it is open."""
    runs = runs if runs is not None else [make_run()]
    devices = devices if devices is not None else [make_device()]
    is_open = state != JobState.ENDED
    defaults: dict[str, Any] = {
        "node": devices[0].node if devices else None,
        "title": runs[0].name if runs else "job",
        "limit_seconds": 60,
        "placed_at": NOW,
        "started_at": NOW,
        "ended_at": None if is_open else NOW + timedelta(minutes=1),
    }
    if runs:
        defaults["experiment"] = runs[0].cell.experiment
    job = Job.objects.create(state=state, **defaults | fields)
    for run in runs:
        Launch.objects.create(job=job, run=run, is_open=is_open)
    for device in devices:
        _lease(job, device, is_open)
    return job


def make_dataset(*, name: str | None = None, **fields: Any) -> Dataset:
    name = name or f"dataset-{next(_numbers)}"
    defaults: dict[str, Any] = {
        "path": f"/nowhere/{name}.json",
        "format": "json_splits",
        "split_rows": {"train": 160, "validation": 20, "test": 20},
        "content_hash": "0" * 64,
        "verified_at": NOW,
    }
    return Dataset.objects.create(name=name, **defaults | fields)


def make_base_model(*, name: str | None = None, **fields: Any) -> BaseModel:
    name = name or f"model-{next(_numbers)}"
    defaults: dict[str, Any] = {
        "path": f"/nowhere/{name}",
        "architecture": "LlamaForCausalLM",
        "parameter_count": 1_000_000,
        "config": {"max_position_embeddings": 2048},
        "content_hash": "0" * 64,
        "verified_at": NOW,
    }
    return BaseModel.objects.create(name=name, **defaults | fields)


def make_observation(*, run: Run | None = None, **fields: Any) -> Observation:
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "metric": "exact_match",
        "value": 0.5,
        "unit": "ratio",
        "source_file": "results.json",
        "fingerprint": f"{number:064d}",
        "observed_at": NOW,
    }
    return Observation.objects.create(run=run, **defaults | fields)


def make_proposal(*, experiment: Experiment, key: str = "batch_size/m", **fields: Any) -> Proposal:
    defaults: dict[str, Any] = {
        "title": f"About {key}",
        "reason": "It fits.",
        "changes": {"priority": 7},
    }
    return Proposal.objects.create(experiment=experiment, key=key, **defaults | fields)


def make_estimate(
    *, run: Run, metric: str = "seconds", value: float | None = 100.0, **fields: Any
) -> Estimate:
    defaults: dict[str, Any] = {"grade": Grade.INTERPOLATED if value else Grade.NONE, "n": 3}
    return Estimate.objects.create(run=run, metric=metric, value=value, **defaults | fields)


def planned_row(*, seconds: Figure, memory: Figure | None = None, **fields: Any) -> dict[str, Any]:
    """A row of a plan, as planning stores it with its cell."""
    nothing = Figure()
    figures = {
        "seconds": seconds,
        "peak_memory_mib": memory or nothing,
        "host_memory_mib": nothing,
        "disk_mib": Figure(value=0.0, low=0.0, high=0.0, grade=Grade.MEASURED),
    }
    defaults: dict[str, Any] = {
        "name": "cell",
        "type": "finetuned",
        "model": "m",
        "dataset": "d",
        "recipe": "lora_finetune_single_device",
        "steps": 4000,
        "devices": 1,
        "limit_seconds": 3600,
        "slurm_time": "00:20:00",
        "start_at": NOW.isoformat(),
        "end_at": None,
        "estimates": {name: figure.to_json() for name, figure in figures.items()},
        "parts": {"training_seconds": seconds.to_json(), "startup_seconds": nothing.to_json()},
    }
    return defaults | fields


def _implied_by(state: str) -> dict[str, Any]:
    """What lifecycle would have written on the way to this state."""
    ready = {"ready_at": NOW, "turn_at": NOW}
    started = {"fencing_token": 1, "launches_count": 1, "queued_at": NOW, "started_at": NOW, **ready}
    finished = {"finished_at": NOW + timedelta(minutes=1)}
    return {
        RunState.PLANNED: {},
        RunState.QUEUED: {"queued_at": NOW, **ready},
        RunState.RUNNING: started,
        RunState.SUCCEEDED: started | finished,
        RunState.FAILED: started
        | finished
        | {"reason": "EXIT_CODE", "message": "It ended with exit code 1."},
        RunState.CANCELLED: finished | {"reason": "CANCELLED_BY_USER", "message": "Cancelled by a person."},
    }[RunState(state)]


def _lease(job: Job, device: Device, is_open: bool) -> Lease:
    lease = Lease.objects.create(job=job, device=device, memory_mib=device.memory_mib)
    if is_open:
        Device.objects.filter(pk=device.pk).update(allocated_mib=device.memory_mib)
    else:
        Lease.objects.filter(pk=lease.pk).update(released_at=job.ended_at)
    device.refresh_from_db()
    return lease
