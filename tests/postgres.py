"""A throwaway PostgreSQL for the tests: `python tests/postgres.py COMMAND ...` runs COMMAND beside it.

It listens on a unix socket only and forgets everything at the end. DATABASE_URL names it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from labmgr.replay import servers  # noqa: E402


@contextmanager
def server() -> Iterator[str]:
    """A running server's URL."""
    folder = Path(tempfile.mkdtemp(prefix="labmgr-pg-", dir="/tmp"))
    try:
        with servers.postgres(folder, options=servers.FAST) as url:
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
