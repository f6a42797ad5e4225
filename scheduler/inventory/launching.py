"""What is looked at once more on a job's GPUs: who uses them just before its launch, and what is left at its end."""

from dataclasses import dataclass, replace

from django.db import transaction

from experiments.states import FinishReason
from scheduler.inventory import looking, nodes, nvml, owners
from scheduler.inventory.foreign import ForeignUse
from scheduler.launchers import process_tree
from scheduler.launchers.base import ExitRecord
from scheduler.models import Device, Job, Lease

KILLING_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why a job is not launched where it was placed."""

    reason: FinishReason
    message: str


def obstacle(job: Job) -> Obstacle | None:
    """What was taken or broke since the job was placed; its rows then say so, and nothing else is placed there."""
    leases = {lease.device.uuid: lease for lease in _gpu_leases(job)}
    if not leases:
        return None
    seen = nvml.processes_on(leases)
    if seen.problem or seen.failed:
        return _failed(job, leases, seen)
    uses = looking.uses_of(job.node, seen.gpus)
    taken = [
        f"{leases[gpu.uuid].device}: {use.sentence}"
        for gpu, use in zip(seen.gpus, uses, strict=True)
        if _store(leases[gpu.uuid], use)
    ]
    return Obstacle(reason=FinishReason.DEVICE_TAKEN, message=" ".join(taken)) if taken else None


def left_behind(job: Job) -> tuple[int, ...]:
    """Processes of an ended job that are still on its GPUs, and cannot be killed."""
    uuids = [lease.device.uuid for lease in _gpu_leases(job)]
    return _killed(job, uuids) if uuids and _of_job(job, uuids) else ()


def with_left_behind(job: Job, record: ExitRecord) -> ExitRecord:
    """The record of a job's end, with what NVML lists of it that its supervisor did not see."""
    pids = (*record.unkillable_pids, *left_behind(job))
    return replace(record, unkillable_pids=tuple(dict.fromkeys(pids)))


def _gpu_leases(job: Job) -> list[Lease]:
    leases = Lease.objects.filter(job=job, released_at__isnull=True, device__kind=Device.Kind.GPU)
    return list(leases.select_related("device__node"))


def _store(lease: Lease, use: ForeignUse) -> bool:
    """Whether there is no room for it: all of it where it is given whole, else its share beside the others'."""
    device = lease.device
    looking.store_use(device, use)
    return use.memory_mib > device.memory_mib - device.allocated_mib


@transaction.atomic
def _failed(job: Job, leases: dict[str, Lease], seen: nvml.Gpus) -> Obstacle:
    messages = {gpu.uuid: gpu.message for gpu in seen.failed} or dict.fromkeys(leases, seen.problem)
    for uuid, message in messages.items():
        nodes.drain(Device.objects.filter(pk=leases[uuid].device_id), message)
    told = " ".join(f"{leases[uuid].device}: {message}." for uuid, message in messages.items())
    return Obstacle(reason=FinishReason.DEVICE_FAILED, message=told)


def _killed(job: Job, uuids: list[str]) -> tuple[int, ...]:
    return process_tree.kill_until_gone(lambda: _of_job(job, uuids), seconds=KILLING_SECONDS)


def _of_job(job: Job, uuids: list[str]) -> list[process_tree.Process]:
    trees = owners.trees_of([job])
    listed = {process.pid for gpu in nvml.processes_on(uuids).gpus for process in gpu.processes or ()}
    ours = [pid for pid in listed if process_tree.is_alive(pid) and trees.job_of(pid) == job.pk]
    return [process for pid in ours if (process := process_tree.find(pid))]
