"""Submitting a workload to a database at its times, as runs that take simulated devices, and waiting for its end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.utils import timezone

from experiments import lifecycle
from experiments.models import Cell, Experiment, Run
from experiments.specs import SimulatedSpec, spec_to_json
from experiments.states import TERMINAL, CellType, RunKind
from labmgr.replay.workload import ReplayJob
from scheduler.dispatch import request_tick
from scheduler.models import Node, TickRequest

AT_ONCE = 500  # runs that are submitted in a transaction
LOOK_SECONDS = 0.2
READY_SECONDS = 120.0
STALLED_SECONDS = 120.0  # without any run that ends, beyond the longest
WINDOW = 1_000_000  # max_parallel: the replay is about devices


class Stalled(Exception):
    """Nothing has moved for long; what there is until then is reported."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    began_at: float  # unix seconds; the workload's second 0
    latest_seconds: float  # how late the latest submission was
    is_stalled: bool


def prepare(jobs: Sequence[ReplayJob]) -> dict[tuple[str, str], Cell]:
    """An experiment for each user of a pool."""
    users = sorted({(job.pool, job.user) for job in jobs})
    return {user: _cell(number, *user) for number, user in enumerate(users)}


def wait_until_ready(pools: int, *, check: Callable[[], None]) -> None:
    """Until every node has its agent and the ticker looks."""
    deadline = time.monotonic() + READY_SECONDS
    while Node.objects.filter(session_renewed_at__isnull=False).count() < pools or not _ticker_is_up():
        check()
        if time.monotonic() > deadline:
            raise Stalled(f"The workers were not ready after {READY_SECONDS:.0f} s.")
        time.sleep(LOOK_SECONDS)


def feed(
    jobs: Sequence[ReplayJob],
    *,
    cells: Mapping[tuple[str, str], Cell],
    wake: Callable[[], None],
    check: Callable[[], None],
) -> Fed:
    """Submit every job when it is due, then wait for the last to end."""
    began = time.time()
    latest = 0.0
    for batch in _due(jobs, began):
        latest = max(latest, time.time() - began - batch[0].submit_seconds)
        _submit(batch, cells)
        wake()
        check()
    return Fed(began_at=began, latest_seconds=latest, is_stalled=not _finished(jobs, check))


def _ticker_is_up() -> bool:
    return TickRequest.objects.filter(ticked_at__isnull=False, is_stopping=False).exists()


def _due(jobs: Sequence[ReplayJob], began: float) -> Iterator[list[ReplayJob]]:
    waiting = sorted(jobs, key=lambda job: (job.submit_seconds, job.index))
    first = 0
    while first < len(waiting):
        time.sleep(max(0.0, began + waiting[first].submit_seconds - time.time()))
        passed = time.time() - began
        last = first
        while last < min(len(waiting), first + AT_ONCE) and waiting[last].submit_seconds <= passed:
            last += 1
        yield waiting[first:last]
        first = last


@transaction.atomic
def _submit(batch: Sequence[ReplayJob], cells: Mapping[tuple[str, str], Cell]) -> None:
    runs = Run.objects.bulk_create(_run(job, cells[job.pool, job.user]) for job in batch)
    lifecycle.queue(run_ids=[run.pk for run in runs], now=timezone.now())
    request_tick()


def _run(job: ReplayJob, cell: Cell) -> Run:
    return Run(
        cell=cell,
        kind=RunKind.SIMULATED,
        name=str(job.index),
        spec=spec_to_json(SimulatedSpec(duration_seconds=job.duration_seconds)),
        devices=job.devices,
        device_memory_mib=job.memory_mib,
        limit_seconds=max(1, math.ceil(job.duration_seconds)),
        priority=job.priority,
        pool=job.pool,
    )


def _cell(number: int, pool: str, user: str) -> Cell:
    now = datetime.now(UTC)
    experiment = Experiment.objects.create(
        name=f"replay-{number}",
        question=f"What {user or 'somebody'} submits to the pool {pool!r}.",
        document={},
        max_parallel=WINDOW,
        planned_at=now,
        approved_at=now,
    )
    return Cell.objects.create(experiment=experiment, index=0, name="replay", type=CellType.SIMULATED)


def _finished(jobs: Sequence[ReplayJob], check: Callable[[], None]) -> bool:
    """Whether all ended; False once nothing has for long."""
    patience = STALLED_SECONDS + max(job.duration_seconds for job in jobs)
    left, since = len(jobs), time.monotonic()
    while left:
        check()
        time.sleep(LOOK_SECONDS)
        now_left = Run.objects.exclude(state__in=TERMINAL).count()
        if now_left != left:
            left, since = now_left, time.monotonic()
        elif time.monotonic() - since > patience:
            return False
    return True
