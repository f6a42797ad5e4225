"""Processes as /proc shows them: who descends from whom, who bears a job's marks, and how to end them.

A pid alone names nobody, since pids are reused: a process is its pid and its start time. Zombies are not
alive.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

UNKILLABLE_AFTER_SECONDS = 30.0
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_HAS_CHILDREN_FILES = Path(f"/proc/self/task/{os.getpid()}/children").exists()


class Process(NamedTuple):
    pid: int
    start_time: int  # clock ticks since boot, field 22 of /proc/<pid>/stat


class _Stat(NamedTuple):
    process: Process
    state: str
    parent: int
    session: int

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def _read(path: str) -> bytes:
    """A file of /proc; empty when its process is gone or hidden."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _stat(pid: int) -> _Stat | None:
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold anything, blanks and ")" too
    return _Stat(Process(pid, int(fields[19])), fields[0].decode(), int(fields[1]), int(fields[3]))


def find(pid: int) -> Process | None:
    """The process that has this pid now, a zombie too."""
    stat = _stat(pid)
    return stat.process if stat else None


def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def open_pidfd(process: Process) -> int | None:
    """A descriptor of exactly this process, readable when it ended; None when it is gone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if find(process.pid) == process:
        return pidfd
    os.close(pidfd)
    return None


def send_signal(process: Process, number: int) -> None:
    pidfd = open_pidfd(process)
    if pidfd is None:
        return
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone; or somebody else's, and then it is found again and reported as unkillable
    finally:
        os.close(pidfd)


def descendants(pid: int) -> list[Process]:
    """The living descendants of a process, without itself. One that is just being forked may be missing."""
    children = _children if _HAS_CHILDREN_FILES else _children_by_scan()
    found, left = [], list(children(pid))
    while left:
        child = left.pop()
        stat = _stat(child)
        if stat and stat.alive:
            found.append(stat.process)
        left.extend(children(child))
    return found


def _children(pid: int) -> Iterable[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    files = (_read(f"{thread}/children") for thread in threads)
    return [int(child) for file in files for child in file.split()]


def _children_by_scan() -> Callable[[int], Iterable[int]]:
    children: dict[int, list[int]] = {}
    for stat in _everybody():
        children.setdefault(stat.parent, []).append(stat.process.pid)
    return lambda pid: children.get(pid, [])


def _everybody() -> Iterator[_Stat]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return (stat for pid in pids if (stat := _stat(pid)))


def lineage(pid: int) -> list[tuple[Process, int]]:
    """A process and its ancestors, the nearest first, each with its session; empty when it cannot be seen."""
    found: list[tuple[Process, int]] = []
    while pid and (stat := _stat(pid)) and len(found) < 1000:
        found.append((stat.process, stat.session))
        pid = stat.parent
    return found


def is_alive(pid: int) -> bool:
    stat = _stat(pid)
    return stat is not None and stat.alive


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty when it is gone or another account's."""
    pairs = (os.fsdecode(pair).partition("=") for pair in _read(f"/proc/{pid}/environ").split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def rss_kib(processes: Iterable[Process]) -> int:
    """The sum of their resident memory."""
    pages = (_read(f"/proc/{process.pid}/statm").split()[1:2] for process in processes)
    return sum(int(page[0]) * _PAGE_KIB for page in pages if page)


def peak_kib(process: Process) -> int:
    """The largest resident memory that it ever had (VmHWM), since it executed its program."""
    for line in _read(f"/proc/{process.pid}/status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1])
    return 0


def marks(*, job_id: int, control_dir: Path) -> Mapping[str, str]:
    """What a job's processes bear in their environment.

    The directory is one of the marks because two installations on a machine may both have a job 1.
    """
    return {"LABMGR_JOB_ID": str(job_id), "LABMGR_CONTROL_DIR": os.path.realpath(control_dir)}


def strays(*, job_id: int, control_dir: Path, leader: Process | None) -> list[Process]:
    """What lives of a job whose supervisor is gone: what bears its marks, what is in the session of its first
    process (`leader`), and what descends from those.

    The session matters since programs that set their title, as vLLM does, overwrite their environment.
    """
    expected = marks(job_id=job_id, control_dir=control_dir)
    wanted = {os.fsencode(f"{name}={value}") for name, value in expected.items()}
    session = leader.pid if leader and find(leader.pid) in (leader, None) else None
    mine = [stat for stat in _everybody() if stat.alive and _is_mine(stat.process.pid)]
    roots = [stat.process for stat in mine if stat.session == session or _bears(stat.process.pid, wanted)]
    return sorted({*roots, *(child for root in roots for child in descendants(root.pid))})


def _is_mine(pid: int) -> bool:
    try:
        return pid != os.getpid() and Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
    except OSError:
        return False


def _bears(pid: int, wanted: set[bytes]) -> bool:
    return wanted <= set(_read(f"/proc/{pid}/environ").split(b"\0"))


def kill(find_alive: Callable[[], Iterable[Process]]) -> None:
    """Stop what is found until nothing new appears, then kill it: what is stopped cannot fork."""
    stopped: set[Process] = set()
    for _ in range(1000):
        fresh = set(find_alive()) - stopped
        if not fresh:
            break
        for process in fresh:
            send_signal(process, signal.SIGSTOP)
        stopped |= fresh
    for process in stopped:
        send_signal(process, signal.SIGKILL)


def kill_until_gone(
    find_alive: Callable[[], Iterable[Process]], *, seconds: float = UNKILLABLE_AFTER_SECONDS
) -> tuple[int, ...]:
    """Kill what is found until nothing is; the pids that outlived `seconds` of it."""
    deadline = time.monotonic() + seconds
    while alive := list(find_alive()):
        if time.monotonic() >= deadline:
            return tuple(process.pid for process in alive)
        kill(find_alive)
        time.sleep(0.01)  # no event tells that strangers are gone
    return ()
