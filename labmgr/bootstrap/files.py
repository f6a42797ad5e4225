"""The home directory: its folders, its secrets, and the lock that keeps two ./lab apart."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, warn

LOG_BYTES = 5_000_000
LOGS_KEPT = 2
GIGABYTE = 10**9


def make_folders(configuration: Configuration) -> None:
    try:
        for folder in configuration.folders:
            folder.mkdir(parents=True, exist_ok=True)
        configuration.secrets.mkdir(mode=0o700, exist_ok=True)
        configuration.secrets.chmod(0o700)
    except OSError as error:
        raise LabError(
            f"Cannot write {error.filename}: {error.strerror}. Give {configuration.home} to your user, "
            "or name another place in LABMGR_HOME."
        ) from error
    if configuration.socket_folder != configuration.run_folder:
        _private_folder(configuration.socket_folder)
        warn(
            f"The path of {configuration.run_folder} is too long for unix sockets; they go to "
            f"{configuration.socket_folder} instead."
        )


def _private_folder(folder: Path) -> None:
    """Under /tmp anybody may have been there first, so it counts only if it is ours alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise LabError(
            f"{folder} belongs to somebody else or is open to others; remove it, or shorten LABMGR_HOME."
        )


def secret(configuration: Configuration, name: str, *, length: int = 32) -> str:
    """A generated secret in its own 0600 file."""
    path = configuration.secrets / name
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if text := path.read_text().strip():
            return text
        path.unlink()  # an interrupted start left it empty
        return secret(configuration, name, length=length)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(length))
    return path.read_text().strip()


def make_secrets(configuration: Configuration) -> None:
    secret(configuration, "secret_key", length=64)
    secret(configuration, "flower_password", length=18)


def require_space(folder: Path, gigabytes: float, *, purpose: str) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < gigabytes * GIGABYTE:
        raise LabError(
            f"Too little disk: {purpose} needs {gigabytes:g} GB in {existing}, and {free / GIGABYTE:.1f} GB are free. "
            "Free some, or name a place on another disk in LABMGR_HOME, then run the same command again."
        )


def rotate(log: Path) -> None:
    """At a start, a log that has grown large becomes .1, and the one before it .2."""
    if not log.exists() or log.stat().st_size < LOG_BYTES:
        return
    for number in range(LOGS_KEPT, 0, -1):
        older = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))


def last_lines(log: Path, count: int = 12) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines[-count:])


@contextmanager
def only_one(lock: Path, *, doing: str) -> Iterator[None]:
    """Waits for another ./lab that is at it, and says so."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            warn(f"Another ./lab (pid {file.read().strip() or 'unknown'}) is {doing}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_locked(lock: Path) -> bool:
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
