"""A throwaway PostgreSQL for the tests: `python tests/postgres.py COMMAND ...` runs COMMAND beside it.

It listens on a unix socket and forgets everything at the end. DATABASE_URL names it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from labmgr.replay import servers  # noqa: E402
from labmgr.replay.servers import Identity  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Network:
    """Where a server listens beside its socket: in a network namespace, for those who know the password."""

    namespace: Path
    address: str
    clients: str  # as in 10.0.0.0/24
    password: str

    def prepare(self, binaries: Path, data: Path, identity: Identity) -> list[str]:
        """Set the password in single-user mode, before anybody can reach it. Entering a namespace takes root, which
        is given up there instead of before."""
        statement = f"ALTER USER labmgr PASSWORD '{self.password}'\n"
        single = [binaries / "postgres", "--single", "-D", data, "postgres"]
        told = {"text": True, "capture_output": True, "check": True, "cwd": data.parent, **identity}
        subprocess.run(single, input=statement, **told)
        with (data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {self.clients} scram-sha-256\n")
        given_up = [f"--setuid={identity['user']}", f"--setgid={identity['group']}"] if identity else []
        return ["nsenter", f"--net={self.namespace}", *given_up, "--"]


@contextmanager
def server(network: Network | None = None) -> Iterator[str]:
    """A running server's URL, through its socket."""
    folder = Path(tempfile.mkdtemp(prefix="labmgr-pg-", dir="/tmp"))
    options = {**servers.FAST, "listen_addresses": network.address} if network else servers.FAST
    try:
        with servers.postgres(folder, options=options, prepare=network and network.prepare) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with server() as url:
        return subprocess.run(command, env={**os.environ, "DATABASE_URL": url}).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except servers.ServerError as error:
        sys.exit(str(error))
