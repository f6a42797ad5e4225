"""Processes that are surely ours: a pid counts only together with its start time, so a reused one is left alone."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    pid: int
    started_ticks: int  # field 22 of /proc/<pid>/stat: clock ticks since boot

    @property
    def is_alive(self) -> bool:
        stat = read_stat(self.pid)
        return stat is not None and stat.started_ticks == self.started_ticks and stat.state != "Z"


@dataclass(frozen=True)
class Stat:
    state: str
    parent: int
    group: int
    started_ticks: int


def read_stat(pid: int) -> Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return Stat(state=fields[0], parent=int(fields[1]), group=int(fields[2]), started_ticks=int(fields[19]))


def identify(pid: int) -> ProcessId | None:
    stat = read_stat(pid)
    return ProcessId(pid, stat.started_ticks) if stat else None


def all_pids() -> Iterator[int]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def environment_of(pid: int) -> dict[str, str]:
    """What the process was started with; empty when it is gone or somebody else's."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if b"=" in item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def command_of(pid: int) -> str:
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(raw.replace(b"\0", b" ")).strip()


def of_home(home: Path, wanted: Callable[[dict[str, str]], bool]) -> list[ProcessId]:
    """Living processes started for this home directory whose environment is as wanted, ourselves left out."""

    def belongs(pid: int) -> bool:
        environment = environment_of(pid)
        return environment.get("LABMGR_HOME") == str(home) and wanted(environment)

    return _living(belongs)


def supervisors_of(control: Path) -> list[ProcessId]:
    """Supervisors of jobs: each holds a lock in its control folder."""
    above = f"{os.path.realpath(control)}{os.sep}"
    return _living(lambda pid: any(path.startswith(above) for path in open_files_of(pid)))


def of_jobs(control: Path) -> list[ProcessId]:
    """Processes of jobs, which name their control folder, and of their supervisors, which hold a lock in it."""
    above = f"{os.path.realpath(control)}{os.sep}"

    def belongs(pid: int) -> bool:
        in_environment = environment_of(pid).get("LABMGR_CONTROL_DIR", "")
        return in_environment.startswith(above) or any(path.startswith(above) for path in open_files_of(pid))

    return _living(belongs)


def open_files_of(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(descriptor.readlink())


def _living(belongs: Callable[[int], bool]) -> list[ProcessId]:
    spared = {os.getpid(), *_ancestors(os.getpid())}
    found = [identify(pid) for pid in all_pids() if pid not in spared and belongs(pid)]
    return [process for process in found if process is not None and process.is_alive]


def group_of(home: Path, service: str, leader: ProcessId) -> list[ProcessId]:
    """The service's main process, and what is left of its process group."""
    members = [leader] if leader.is_alive else []
    for process in of_home(home, lambda environment: environment.get("LABMGR_SERVICE") == service):
        stat = read_stat(process.pid)
        if process != leader and stat and stat.group == leader.pid:
            members.append(process)
    return members


def send(process: ProcessId, number: signal.Signals) -> None:
    """Signals exactly this process, whatever becomes of its pid meanwhile."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        if process.is_alive:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(descriptor)


def end(processes: Iterable[ProcessId], *, grace_seconds: float) -> list[ProcessId]:
    """TERM, wait, KILL. Returns what lives nevertheless."""
    living = list(processes)
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        for process in living:
            send(process, number)
        living = _alive_after(living, patience)
        if not living:
            break
    return living


def _alive_after(watched: list[ProcessId], seconds: float) -> list[ProcessId]:
    wait_until(lambda: not any(process.is_alive for process in watched), seconds)
    return [process for process in watched if process.is_alive]


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def write_pid_file(path: Path, pid: int) -> None:
    process = identify(pid)
    if process is None:
        return
    write_atomically(
        path, json.dumps({"pid": pid, "started_ticks": process.started_ticks, "boot_id": boot_id()})
    )


def read_pid_file(path: Path) -> ProcessId | None:
    """The process that the file speaks of, also when it is gone; None when it is of an earlier boot or unreadable."""
    try:
        record = json.loads(path.read_text())
        same_boot = record["boot_id"] == boot_id()
        return ProcessId(int(record["pid"]), int(record["started_ticks"])) if same_boot else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def boot_id() -> str:
    with contextlib.suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1 and (stat := read_stat(pid)) is not None:
        pid = stat.parent
        yield pid
