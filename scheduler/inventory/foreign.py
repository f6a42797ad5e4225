"""What others use of a GPU: processes that are not of a job of this lab, and memory that no process accounts for.

A job that uses more than its share is not foreign. Where a driver does not tell what a foreign process takes, none of
the GPU is offered. Inside a container, a driver may number processes as the host does, or list none: then they are
taken for ours while a job of ours holds the GPU, and memory tells of others only while none does.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.inventory import owners
from scheduler.inventory.nvml import Gpu, GpuProcess
from scheduler.inventory.owners import Presence

UNACCOUNTED_MIB = 1024  # an idle GPU's driver keeps up to some 600 MiB for itself


@dataclass(frozen=True, kw_only=True)
class ForeignUse:
    memory_mib: int = 0
    sentence: str = ""  # names who


def of_gpu(
    gpu: Gpu, *, job_of: Callable[[int], int | None], is_held: bool, tolerated: frozenset[str] = frozenset()
) -> ForeignUse:
    """`is_held`: by a job of ours. `tolerated`: names of programs, such as Xorg, whose use is overlooked."""
    foreign = [
        process
        for process in gpu.processes or ()
        if _is_foreign(process.pid, job_of, is_held) and owners.program(process.pid) not in tolerated
    ]
    if foreign:
        return _of_processes(gpu, foreign)
    return ForeignUse() if is_held else _unaccounted(gpu)


def _is_foreign(pid: int, job_of: Callable[[int], int | None], is_held: bool) -> bool:
    presence = owners.presence(pid)
    if presence is Presence.SEEN:
        return job_of(pid) is None
    return presence is Presence.HIDDEN or (presence is Presence.UNKNOWN and not is_held)


def _of_processes(gpu: Gpu, foreign: list[GpuProcess]) -> ForeignUse:
    known = sum(process.memory_mib or 0 for process in foreign)
    all_known = all(process.memory_mib is not None for process in foreign)
    memory_mib = min(max(known, 1), gpu.memory_mib) if all_known else gpu.memory_mib
    return ForeignUse(memory_mib=memory_mib, sentence="; ".join(map(_sentence, foreign)) + ".")


def _sentence(process: GpuProcess) -> str:
    used = "an unknown part of it" if process.memory_mib is None else f"{process.memory_mib:,} MiB"
    return f"{owners.described(process.pid)} uses {used}"


def _unaccounted(gpu: Gpu) -> ForeignUse:
    """What a container hides, or what a dead process left."""
    processes = gpu.processes or ()
    if any(process.memory_mib is None for process in processes):
        return ForeignUse()
    left = gpu.used_mib - sum(process.memory_mib or 0 for process in processes)
    if left <= UNACCOUNTED_MIB:
        return ForeignUse()
    return ForeignUse(
        memory_mib=min(left, gpu.memory_mib),
        sentence=f"{left:,} MiB are in use, and no process that can be seen from here accounts for them.",
    )
