"""The history of a campaign: what was done to the stack and what was seen of it, as records with a boot-clock time.

It is written as JSON lines while the campaign goes on, so that a campaign that is resumed adds to it, and read back as
these records. The checker knows nothing else.
"""

import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

_Record = TypeVar("_Record")


def now() -> float:
    """The boot-time clock: nobody sets it, and a job's own program reads the same one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, kw_only=True)
class Fault:
    number: int
    kind: str  # of tests.faults.storm
    component: str  # what is away meanwhile: node, control, redis, ...; empty where nothing is
    at: float
    returned_at: float | None = None  # when what was away is there again
    job: int | None = None  # whose supervisor it was


@dataclass(frozen=True, kw_only=True)
class Blind:
    """The observer could not see: nothing that happened then is held against anybody."""

    since: float
    until: float


@dataclass(frozen=True, kw_only=True)
class DeviceSeen:
    id: int
    memory_mib: int
    allocated_mib: int
    leased_mib: int  # the sum of what is not given back
    state: str = "AVAILABLE"


@dataclass(frozen=True, kw_only=True)
class NodeSeen:
    name: str
    renewals: str = ""  # changes with every renewal of the session
    is_lost: bool = False
    miscounted: str = ""  # host memory or threads that are not what its jobs hold


@dataclass(frozen=True, kw_only=True)
class OpenJob:
    id: int
    node: str
    state: str
    requeues: bool = True  # by its experiment's on_node_lost


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One consistent look at the database, and at the processes before and after it."""

    at: float
    devices: tuple[DeviceSeen, ...] = ()
    nodes: tuple[NodeSeen, ...] = ()
    open_jobs: tuple[OpenJob, ...] = ()
    ended_and_holding: tuple[
        int, ...
    ] = ()  # jobs that ended with a lease, on nodes that have nothing to prove
    ended_and_alive: dict[int, tuple[int, ...]] = field(default_factory=dict)  # the pids that outlived a job
    windows: tuple[str, ...] = ()  # experiments whose count of open jobs is wrong
    marks: dict[str, str] = field(default_factory=dict)  # of progress: whatever changes while a part works


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A line of the ledger, which the jobs' own programs write."""

    kind: str  # begin, alive or end
    key: str  # what the program was told to be: experiment and part
    job: int
    pid: int
    at: float


@dataclass(frozen=True, kw_only=True)
class RunRow:
    id: int
    key: str
    kind: str  # command or simulated
    state: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class EventRow:
    id: int
    run: int
    state: str
    reason: str = ""
    job: int | None = None


@dataclass(frozen=True, kw_only=True)
class JobRow:
    id: int
    node: str
    state: str
    ending: str = ""
    runs: tuple[int, ...] = ()
    devices: tuple[int, ...] = ()  # of the kinds that are given whole
    requeues: bool = True


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """An experiment that labmgr said it had queued, and with how many runs."""

    experiment: str
    runs: int


@dataclass(frozen=True, kw_only=True)
class LeftProcess:
    """Alive after everything had ended."""

    pid: int
    command: str


_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Fault, Blind, Sample, Sign, RunRow, EventRow, JobRow, Submitted, LeftProcess)
}


@dataclass(frozen=True, kw_only=True)
class History:
    faults: tuple[Fault, ...] = ()
    blind: tuple[Blind, ...] = ()
    samples: tuple[Sample, ...] = ()
    signs: tuple[Sign, ...] = ()
    runs: tuple[RunRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    jobs: tuple[JobRow, ...] = ()
    submitted: tuple[Submitted, ...] = ()
    left: tuple[LeftProcess, ...] = ()
    node_lost_after: float = 20.0

    @classmethod
    def of(cls, records: Iterable[object], **more: Any) -> "History":
        """Rows that are recorded again replace the earlier ones; so does a fault that returned."""
        records = list(records)
        return cls(
            faults=_latest(records, Fault, lambda fault: fault.number),
            blind=_all(records, Blind),
            samples=_all(records, Sample),
            signs=_all(records, Sign),
            runs=_latest(records, RunRow, lambda run: run.id),
            events=_latest(records, EventRow, lambda event: event.id),
            jobs=_latest(records, JobRow, lambda job: job.id),
            submitted=_all(records, Submitted),
            left=_all(records, LeftProcess),
            **more,
        )


class Writer:
    """Appends records; any thread may."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._guard = threading.Lock()

    def write(self, *records: object) -> None:
        lines = [json.dumps({"record": type(record).__name__, **asdict(record)}) for record in records]  # type: ignore[call-overload]
        with self._guard:
            self._file.write("".join(f"{line}\n" for line in lines))
            self._file.flush()

    def close(self) -> None:
        with self._guard:
            os.fsync(self._file.fileno())
            self._file.close()


def read(path: Path) -> list[object]:
    """All whole lines; the last one of a campaign that was killed may be cut."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [_parsed(json.loads(line)) for line in lines]


def read_ledger(path: Path) -> list[Sign]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [Sign(**json.loads(line)) for line in lines]


def _parsed(document: dict[str, Any]) -> object:
    kind = _KINDS[document.pop("record")]
    for name, value in document.items():
        if isinstance(value, list):
            document[name] = tuple(value)
    if kind is Sample:
        document["devices"] = tuple(DeviceSeen(**each) for each in document["devices"])
        document["nodes"] = tuple(NodeSeen(**each) for each in document["nodes"])
        document["open_jobs"] = tuple(OpenJob(**each) for each in document["open_jobs"])
        alive = document["ended_and_alive"].items()
        document["ended_and_alive"] = {int(job): tuple(pids) for job, pids in alive}
    return kind(**document)


def _all(records: list[object], kind: type[_Record]) -> tuple[_Record, ...]:
    return tuple(record for record in records if isinstance(record, kind))


def _latest(records: list[object], kind: type[_Record], identity: Any) -> tuple[_Record, ...]:
    return tuple({identity(record): record for record in _all(records, kind)}.values())
