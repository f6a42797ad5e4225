"""Placements become jobs: a batch in one short transaction of guarded updates.

What a batch names is locked in one order (experiments, nodes, devices, runs; what ends jobs keeps it, too), and what
went stale meanwhile (a cancelled run, a device that another tick gave away) is left out of it, so that one stale
placement loses none of the others. Should the database refuse a batch all the same, its halves are tried.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import F, OuterRef, Subquery

from experiments import lifecycle
from experiments.models import Experiment, Run
from experiments.states import JobState, RunKind
from scheduler.allocation import Placement
from scheduler.ledger import Ledger
from scheduler.models import Device, Job, Launch, Lease, Node
from scheduler.placed import Charge, earlier_directories, paths_of

log = logging.getLogger(__name__)

BATCH = 64  # placements in a transaction

Send = Callable[[Charge], None]


class Stale(Exception):
    """Somebody else was first; nothing of this batch stays."""


def apply(
    *, placements: Sequence[Placement], now: datetime, send: Send, claiming_node_id: int | None = None
) -> int:
    """Returns how many jobs were placed; each is sent after commit.

    What an agent places on its own node, it claims with it.
    """
    return sum(_applied(batch, now, send, claiming_node_id) for batch in _batches(placements))


def _batches(placements: Sequence[Placement]) -> Iterator[Sequence[Placement]]:
    return (placements[first : first + BATCH] for first in range(0, len(placements), BATCH))


def _applied(batch: Sequence[Placement], now: datetime, send: Send, claiming_node_id: int | None) -> int:
    try:
        with transaction.atomic():
            charges = _apply(batch, now, claiming_node_id)
            transaction.on_commit(lambda: _send_all(charges, send))
    except (Stale, IntegrityError) as stale:
        log.info("a batch of %s placements went stale: %s", len(batch), stale)
        if len(batch) == 1:
            return 0
        middle = len(batch) // 2
        halves = batch[:middle], batch[middle:]
        return sum(_applied(half, now, send, claiming_node_id) for half in halves)
    return len(charges)


def _send_all(charges: Sequence[Charge], send: Send) -> None:
    for charge in charges:
        send(charge)


def _apply(batch: Sequence[Placement], now: datetime, claiming_node_id: int | None) -> list[Charge]:
    ledger = Ledger.locked(batch)
    fresh = [placement for placement in batch if ledger.take(placement)]
    if not fresh:
        return []
    _take_windows(fresh)
    _take_nodes(fresh)
    _take_devices(fresh, ledger)
    jobs = _create_jobs(fresh, ledger, now, claiming_node_id)
    _carry(fresh, jobs, ledger)
    _start(fresh, jobs, now)
    return _charges(fresh, jobs, ledger)


def _take_windows(fresh: Sequence[Placement]) -> None:
    for experiment_id, jobs in sorted(Counter(p.item.experiment_id for p in fresh).items()):
        window = Experiment.objects.filter(
            pk=experiment_id, paused_at__isnull=True, max_parallel__gte=F("open_jobs") + jobs
        )
        if not window.update(open_jobs=F("open_jobs") + jobs):
            raise Stale(f"experiment {experiment_id} is paused, or has max_parallel jobs open")


def _take_nodes(fresh: Sequence[Placement]) -> None:
    for name in sorted({placement.node for placement in fresh}):
        items = [placement.item for placement in fresh if placement.node == name]
        memory_mib = sum(item.host_memory_mib for item in items)
        threads = sum(item.cpu_threads for item in items)
        room = Node.objects.filter(
            name=name,
            is_draining=False,
            host_memory_mib__gte=F("allocated_host_memory_mib") + memory_mib,
            cpu_threads__gte=F("allocated_cpu_threads") + threads,
        )
        taken = room.update(
            allocated_host_memory_mib=F("allocated_host_memory_mib") + memory_mib,
            allocated_cpu_threads=F("allocated_cpu_threads") + threads,
        )
        if not taken:
            raise Stale(f"node {name} has no room any more")


def _take_devices(fresh: Sequence[Placement], ledger: Ledger) -> None:
    """Whole devices, which must then be held by nobody, and shares."""
    available = Device.objects.filter(state=Device.State.AVAILABLE)
    whole = [i for p in fresh if p.item.device_memory_mib is None for i in p.device_ids]
    taken = available.filter(pk__in=whole, allocated_mib=0).update(allocated_mib=F("memory_mib"))
    if taken != len(whole):
        raise Stale("a device is not free any more")
    shares: Counter[int] = Counter()
    for placement in fresh:
        if placement.item.device_memory_mib is not None:
            shares.update(dict.fromkeys(placement.device_ids, placement.item.device_memory_mib))
    for device_id, memory_mib in sorted(shares.items()):
        room = available.filter(pk=device_id, memory_mib__gte=F("allocated_mib") + memory_mib)
        if not room.update(allocated_mib=F("allocated_mib") + memory_mib):
            raise Stale(f"device {device_id} is not free any more")


def _create_jobs(
    fresh: Sequence[Placement], ledger: Ledger, now: datetime, claiming_node_id: int | None
) -> list[Job]:
    jobs = [
        Job(
            node=(node := ledger.nodes[placement.node]),
            experiment=ledger.experiments[placement.item.experiment_id],
            title=title,
            state=JobState.CLAIMED if node.pk == claiming_node_id else JobState.PLACED,
            claimed_at=now if node.pk == claiming_node_id else None,
            limit_seconds=sum(ledger.runs[run_id].limit_seconds for run_id in placement.item.run_ids),
            host_memory_mib=placement.item.host_memory_mib,
            cpu_threads=placement.item.cpu_threads,
            placed_at=now,
        )
        for placement, title in zip(fresh, _titles(fresh, ledger), strict=True)
    ]
    Job.objects.bulk_create(jobs)
    for job in jobs:
        job.directory = str(paths_of(job).directory)
    Job.objects.bulk_create(  # an update of them all, without the cases of bulk_update
        jobs, update_conflicts=True, unique_fields=["id"], update_fields=["directory"]
    )
    return jobs


def _titles(fresh: Sequence[Placement], ledger: Ledger) -> list[str]:
    """The name of the run, or of the engine that several share."""
    sharing = [p.item.run_ids[0] for p in fresh if len(p.item.run_ids) > 1]
    named = Run.objects.filter(pk__in=sharing, kind=RunKind.EVALUATE, cell__base_model__isnull=False)
    shared = dict(named.values_list("pk", "cell__base_model__name")) if sharing else {}
    return [
        ledger.runs[p.item.run_ids[0]].name
        if len(p.item.run_ids) == 1
        else f"{shared.get(p.item.run_ids[0], '')}/evaluate-{len(p.item.run_ids)}"
        for p in fresh
    ]


def _carry(fresh: Sequence[Placement], jobs: Sequence[Job], ledger: Ledger) -> None:
    pairs = list(zip(fresh, jobs, strict=True))
    Lease.objects.bulk_create(
        Lease(
            job=job,
            device_id=device_id,
            memory_mib=placement.item.device_memory_mib or ledger.devices[device_id].memory_mib,
        )
        for placement, job in pairs
        for device_id in placement.device_ids
    )
    Launch.objects.bulk_create(
        Launch(job=job, run_id=run_id) for placement, job in pairs for run_id in placement.item.run_ids
    )


def _start(fresh: Sequence[Placement], jobs: Sequence[Job], now: datetime) -> None:
    """Each run under the token of the job that carries it."""
    pairs = zip(fresh, jobs, strict=True)
    job_of = {run_id: job.pk for placement, job in pairs for run_id in placement.item.run_ids}
    carrying = Launch.objects.filter(run=OuterRef("pk"), is_open=True)
    alone = jobs[0] if len(jobs) == 1 else None  # most batches; a subquery costs more than the rest of it
    started = lifecycle.start(
        job_of=job_of,
        token=alone.pk if alone else Subquery(carrying.values("job_id")[:1]),
        directory=alone.directory if alone else Subquery(carrying.values("job__directory")[:1]),
        now=now,
    )
    if started != len(job_of):
        raise Stale("a run of it is not queued any more")


def _charges(fresh: Sequence[Placement], jobs: Sequence[Job], ledger: Ledger) -> list[Charge]:
    earlier = earlier_directories(ledger.runs[run_id] for p in fresh for run_id in p.item.run_ids)
    return [_charge(each, job, ledger, earlier) for each, job in zip(fresh, jobs, strict=True)]


def _charge(
    placement: Placement, job: Job, ledger: Ledger, earlier: Mapping[int, tuple[Path, ...]]
) -> Charge:
    devices = sorted((ledger.devices[pk] for pk in placement.device_ids), key=lambda device: device.index)
    memory_mib = placement.item.device_memory_mib
    return Charge(
        job=job,
        runs=tuple(ledger.runs[run_id] for run_id in sorted(placement.item.run_ids)),
        devices=tuple(devices),
        granted_mib=tuple(memory_mib or device.memory_mib for device in devices),
        earlier=earlier,
    )
