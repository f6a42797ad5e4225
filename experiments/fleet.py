"""What the lab has to run on, and when it would get to it: asked of whoever schedules, which is named in the settings.

`experiments` never imports the scheduler, so the direction is turned around: settings.SCHEDULE names a class that
answers these questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string


@dataclass(frozen=True, kw_only=True)
class DeviceKind:
    """Devices that are alike."""

    name: str  # the device's model name
    kind: str  # gpu, cpu or simulated
    memory_mib: int  # of one device
    count: int
    most_on_a_node: int

    @property
    def on_gpu(self) -> bool:
        return self.kind == "gpu"


@dataclass(frozen=True, kw_only=True)
class Fleet:
    kinds: tuple[DeviceKind, ...] = ()  # those that are there and not drained, the most numerous first
    software: str = ""  # of the ML environment, as experiments.conditions.software_of says it

    @property
    def real(self) -> tuple[DeviceKind, ...]:
        return tuple(kind for kind in self.kinds if kind.kind != "simulated")

    @property
    def target(self) -> DeviceKind | None:
        """What plans are estimated for: the lab's most numerous GPU, or its CPU slots where it has none."""
        gpus = [kind for kind in self.real if kind.on_gpu]
        return next(iter(gpus or self.real), None)


@dataclass(frozen=True, kw_only=True)
class AskedRun:
    """A run of a plan, as far as its turn depends on it. `after` counts from 0 in the list that is asked about."""

    seconds: float | None  # None: there is no evidence
    devices: int
    device_memory_mib: int | None
    host_memory_mib: int
    cpu_threads: int
    pool: str
    limit_seconds: int
    priority: int
    simulated: bool
    after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """When a run would start and end; None from the first run on whose time has no evidence."""

    start_at: datetime | None = None
    end_at: datetime | None = None


class Schedule(Protocol):
    def fleet(self) -> Fleet: ...

    def turns(self, *, runs: Sequence[AskedRun], max_parallel: int | None, now: datetime) -> Sequence[Turn]:
        """When these runs would have their turn, if they were queued now behind what is queued already.

        Automatic windows (None) are taken to hold nothing back, as if they had grown already.
        """
        ...

    def request_tick(self) -> None:
        """Look at the queue again, once this transaction is committed: more may start now."""
        ...


def schedule() -> Schedule:
    answers: Schedule = import_string(settings.SCHEDULE)()
    return answers
