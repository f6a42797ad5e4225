"""What a batch of placements would take, read under lock: which of them are still as they were decided."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from django.db.models import Exists, Model, QuerySet

from experiments.models import Experiment, Run
from scheduler.allocation import Placement, QueueItem
from scheduler.models import Device, Node, TickRequest

_Row = TypeVar("_Row", bound=Model)
_OF_RUN = ("name", "kind", "spec", "limit_seconds", "cancel_requested_at", "depends_on")
_BEFORE_RUN = ("depends_on__kind", "depends_on__spec", "depends_on__directory")
_OF_DEVICE = ("index", "kind", "uuid", "model_name", "memory_mib", "allocated_mib")


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What is there, and what the placements taken so far leave of it."""

    experiments: Mapping[int, Experiment]  # that are not paused
    nodes: Mapping[str, Node]  # that take jobs
    devices: Mapping[int, Device]  # that take jobs
    runs: Mapping[int, Run]  # that are queued, with what they build on
    _jobs: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # taken, by experiment
    _host: dict[str, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    _memory: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # taken, by device
    _runs: set[int] = field(default_factory=set)

    @classmethod
    def locked(cls, batch: Sequence[Placement]) -> "Ledger":
        """Within a transaction, which then holds all of it."""
        items = [placement.item for placement in batch]
        device_ids = [device_id for placement in batch for device_id in placement.device_ids]
        run_ids = [run_id for item in items for run_id in item.run_ids]
        experiments = Experiment.objects.filter(
            pk__in={item.experiment_id for item in items}, paused_at__isnull=True
        )
        nodes = Node.objects.filter(name__in={placement.node for placement in batch}, is_draining=False)
        devices = Device.objects.filter(pk__in=device_ids, state=Device.State.AVAILABLE)
        return cls(
            experiments=_locked(experiments.only("name", "max_parallel", "open_jobs", "on_node_lost")),
            nodes={row.name: row for row in _locked(nodes).values()},
            devices=_locked(devices.only(*_OF_DEVICE)),
            runs=_locked(_startable(run_ids)),  # the last: who pauses the queue waits for these locks
        )

    def take(self, placement: Placement) -> bool:
        """Whether it is still as it was decided; then what it takes is taken."""
        item = placement.item
        is_fresh = (
            all(run_id in self.runs and run_id not in self._runs for run_id in item.run_ids)
            and self._has_window(item)
            and self._has_room(placement)
            and all(self._is_free(device_id, item.device_memory_mib) for device_id in placement.device_ids)
        )
        if is_fresh:
            self._take(placement)
        return is_fresh

    def _has_window(self, item: QueueItem) -> bool:
        experiment = self.experiments.get(item.experiment_id)
        return (
            experiment is not None
            and experiment.open_jobs + self._jobs[experiment.pk] < experiment.max_parallel
        )

    def _has_room(self, placement: Placement) -> bool:
        node, item = self.nodes.get(placement.node), placement.item
        if node is None:
            return False
        memory_mib, threads = self._host[node.name]
        return (
            node.allocated_host_memory_mib + memory_mib + item.host_memory_mib <= node.host_memory_mib
            and node.allocated_cpu_threads + threads + item.cpu_threads <= node.cpu_threads
        )

    def _is_free(self, device_id: int, memory_mib: int | None) -> bool:
        device = self.devices.get(device_id)
        if device is None:
            return False
        held = device.allocated_mib + self._memory[device_id]
        return held == 0 if memory_mib is None else held + memory_mib <= device.memory_mib

    def _take(self, placement: Placement) -> None:
        item = placement.item
        memory_mib, threads = self._host[placement.node]
        self._host[placement.node] = (memory_mib + item.host_memory_mib, threads + item.cpu_threads)
        self._jobs[item.experiment_id] += 1
        self._runs.update(item.run_ids)
        for device_id in placement.device_ids:
            self._memory[device_id] += item.device_memory_mib or self.devices[device_id].memory_mib


def _startable(run_ids: Sequence[int]) -> QuerySet[Run]:
    """What it builds on may have been run again meanwhile, and the queue been paused."""
    queued = Run.objects.queued().filter(
        ~Exists(TickRequest.objects.halted()),
        pk__in=run_ids,
        cancel_requested_at__isnull=True,
        turn_at__isnull=False,
    )
    return queued.select_related("depends_on").only(*_OF_RUN, *_BEFORE_RUN)


def _locked(rows: QuerySet[_Row]) -> dict[int, _Row]:
    return {row.pk: row for row in rows.order_by("pk").select_for_update(of=("self",))}
