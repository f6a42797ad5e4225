"""What a batch of placements would take, read under lock: which of them are still as they were decided."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from django.db.models import Model, QuerySet

from experiments.models import Experiment, Run
from scheduler.allocation import Placement, QueueItem
from scheduler.models import Device, Node

_Row = TypeVar("_Row", bound=Model)


class HeldDevice(NamedTuple):
    memory_mib: int
    allocated_mib: int


class QueuedRun(NamedTuple):
    name: str
    limit_seconds: int


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What is there, and what the placements taken so far leave of it."""

    experiments: Mapping[int, Experiment]  # that are not paused
    nodes: Mapping[str, Node]  # that take jobs
    devices: Mapping[int, HeldDevice]  # that take jobs
    runs: Mapping[int, QueuedRun]  # that are queued
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
        runs = Run.objects.queued().filter(
            pk__in=run_ids, cancel_requested_at__isnull=True, turn_at__isnull=False
        )  # what it builds on may have been run again meanwhile
        return cls(
            experiments={
                row.pk: row
                for row in _in_order(experiments.only("name", "max_parallel", "open_jobs", "on_node_lost"))
            },
            nodes={row.name: row for row in _in_order(nodes)},
            devices={
                pk: HeldDevice(memory_mib, allocated_mib)
                for pk, memory_mib, allocated_mib in _in_order(devices).values_list(
                    "pk", "memory_mib", "allocated_mib"
                )
            },
            runs={
                pk: QueuedRun(name, limit)
                for pk, name, limit in _in_order(runs).values_list("pk", "name", "limit_seconds")
            },
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


def _in_order(rows: QuerySet[_Row]) -> QuerySet[_Row]:
    return rows.order_by("pk").select_for_update()
