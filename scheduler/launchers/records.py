"""What a job's control directory holds.

launch.json      what to launch; 0600, since it holds the job's environment
supervisor.json  who watches it; there before the job's first process is
supervisor.lock  held (flock) by the supervisor for its life; its own file: replacing one loses its lock
exit.json        how it ended; written once, by whoever holds the lock

Every record appears whole or not at all.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scheduler.launchers.base import Ending, ExitRecord, LaunchRequest
from scheduler.launchers.process_tree import Process

LAUNCH = "launch.json"
SUPERVISOR = "supervisor.json"
LOCK = "supervisor.lock"
EXIT = "exit.json"

_Record = TypeVar("_Record")


class RecordError(Exception):
    """A record is there and cannot be read."""


@dataclass(frozen=True, kw_only=True)
class SupervisorRecord:
    """Who watches a job (nobody if it is simulated), and its `leader`: its first process, once it started."""

    supervisor: Process | None
    boot_id: str
    started_at: float  # unix seconds
    leader: Process | None = None


def write_launch(request: LaunchRequest) -> None:
    """Make the control directory and put the request into it: not synced, since what a power cut takes of it was
    either read by a supervisor whose own record tells of it, or is written again.
    """
    request.control_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    request.control_dir.chmod(0o700)
    _write(request.control_dir / LAUNCH, _as_document(request), durable=False)


def _as_document(request: LaunchRequest) -> dict[str, object]:
    paths = {name: str(getattr(request, name).absolute()) for name in ("cwd", "log_path", "control_dir")}
    fence = str(request.fence_file.absolute()) if request.fence_file else None
    return {**vars(request), **paths, "env": dict(request.env), "fence_file": fence}


def read_launch(control_dir: Path) -> LaunchRequest | None:
    return _read(control_dir / LAUNCH, _as_request)


def _as_request(document: dict[str, Any]) -> LaunchRequest:
    paths = {name: Path(document[name]) for name in ("cwd", "log_path", "control_dir")}
    fence = Path(document["fence_file"]) if document.get("fence_file") else None
    return LaunchRequest(**{**document, **paths, "argv": tuple(document["argv"]), "fence_file": fence})


def write_supervisor(control_dir: Path, record: SupervisorRecord, *, durable: bool = True) -> None:
    _write(control_dir / SUPERVISOR, vars(record), durable=durable)


def read_supervisor(control_dir: Path) -> SupervisorRecord | None:
    return _read(control_dir / SUPERVISOR, _as_supervisor)


def _as_supervisor(document: dict[str, Any]) -> SupervisorRecord:
    pairs = {name: document[name] for name in ("supervisor", "leader")}
    processes = {name: Process(*pair) if pair else None for name, pair in pairs.items()}
    return SupervisorRecord(**{**document, **processes})


def write_exit(control_dir: Path, record: ExitRecord, *, durable: bool = True) -> None:
    """Only for the holder of the lock. Raises FileExistsError rather than change how a job ended."""
    path = control_dir / EXIT
    if path.exists():
        raise FileExistsError(f"{path} exists: how a job ended is written once; look why two did.")
    _write(path, vars(record), durable=durable)
    if durable:
        _sync_directory(control_dir)  # or a power cut could undo the renaming, and a finished job be repeated


def read_exit(control_dir: Path) -> ExitRecord | None:
    return _read(control_dir / EXIT, _as_exit)


def rehearse(record: SupervisorRecord) -> None:
    """Everything about records that can be done without a control directory."""
    nowhere = Path(os.devnull)
    request = LaunchRequest(
        job_id=0, argv=("true",), env={}, cwd=nowhere, log_path=nowhere, control_dir=nowhere, limit_seconds=1
    )
    _as_request(json.loads(json.dumps(_as_document(request))))
    _as_supervisor(json.loads(json.dumps(vars(record))))
    lock_is_free(nowhere.parent)
    read_supervisor(nowhere.parent)


def _as_exit(document: dict[str, Any]) -> ExitRecord:
    pids = tuple(document["unkillable_pids"])
    return ExitRecord(**{**document, "ending": Ending(document["ending"]), "unkillable_pids": pids})


def _write(path: Path, document: Mapping[str, object], *, durable: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    left = json.dumps(document).encode("ascii")  # dumps, and no indent: that is the encoder in C
    # Without the layers for text, which cost more than the rest of this.
    with os.fdopen(os.open(temporary, flags, 0o600), "wb", buffering=0) as file:
        while left:
            left = left[file.write(left) :]
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, build: Callable[[dict[str, Any]], _Record]) -> _Record | None:
    try:
        with path.open("rb", buffering=0) as file:
            return build(json.loads(file.read()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path} cannot be read as a record ({error}). Look whether the job's processes live, "
            "then move its control directory away."
        ) from error


def take_lock(control_dir: Path) -> int | None:
    """Hold the job's lock until the descriptor returned is closed; None when somebody else holds it."""
    descriptor = os.open(control_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    for _ in range(3):
        if _flock(descriptor, fcntl.LOCK_EX):
            return descriptor
        time.sleep(0.01)  # lock_is_free() holds it for microseconds, and must not make a supervisor refuse
    os.close(descriptor)
    return None


def lock_is_free(control_dir: Path) -> bool:
    """Whether no supervisor lives; also when there never was one."""
    try:
        descriptor = os.open(control_dir / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        return _flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
