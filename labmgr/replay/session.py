"""One replay: its servers, its workers, and a process of its own that feeds it.

Its environment names another database than the one that this process has opened, hence the second process:
`python -m labmgr.replay.session`, which `manage.py replay` starts and nobody types.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import django
from django.core.management import call_command

from labmgr.replay import servers, stack
from labmgr.replay.report import RecordedLaunch
from labmgr.replay.workload import read


class ReplayError(Exception):
    """The replay could not be made."""


def replay(workload: Path, *, devices: int, pools: Sequence[str], on_postgres: bool) -> list[RecordedLaunch]:
    """What was recorded of every launch. Raises ReplayError or servers.ServerError."""
    folder = Path(tempfile.mkdtemp(prefix="labmgr-replay-", dir="/tmp"))  # paths of sockets have to be short
    folder.chmod(0o755)  # the database's user has to pass through
    try:
        with ExitStack() as running:
            for name in ("home", "redis", "postgres"):
                (folder / name).mkdir()
            redis_url = running.enter_context(servers.redis(folder / "redis"))
            database_url = f"sqlite:///{folder / 'home' / 'db' / 'labmgr.sqlite3'}"
            if on_postgres:
                server = servers.postgres(folder / "postgres", options=servers.DURABLE)
                database_url = running.enter_context(server)
            environment = stack.environment(
                folder=folder, database_url=database_url, redis_url=redis_url, devices=devices
            )
            return _fed(workload, folder, devices, pools, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fed(
    workload: Path, folder: Path, devices: int, pools: Sequence[str], environment: dict[str, str]
) -> list[RecordedLaunch]:
    told = {
        "workload": str(workload.absolute()),
        "folder": str(folder),
        "devices": devices,
        "pools": list(pools),
    }
    done = subprocess.run(
        [sys.executable, "-m", "labmgr.replay.session", json.dumps(told)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=stack.REPOSITORY,
        env=environment,
    )
    if done.returncode:
        raise ReplayError("The replay was not finished; see above.")
    return [
        RecordedLaunch(**{**launch, "devices": tuple(launch["devices"])})
        for launch in json.loads(done.stdout)
    ]


def main(told: dict[str, object]) -> int:
    django.setup()
    from labmgr.replay import feeding, recorded  # noqa: PLC0415 (rows need Django)
    from scheduler import tasks  # noqa: PLC0415

    devices, folder = int(str(told["devices"])), Path(str(told["folder"]))
    pools = [str(pool) for pool in told["pools"]]  # type: ignore[attr-defined]
    jobs = read(Path(str(told["workload"])), devices=devices)
    call_command("migrate", verbosity=0)
    cells = feeding.prepare(jobs)
    with stack.workers(folder=folder, pools=pools) as workers:
        try:
            feeding.wait_until_ready(len(pools), check=workers.require_alive)
            fed = feeding.feed(
                jobs, cells=cells, wake=lambda: tasks.wake_tickers(), check=workers.require_alive
            )
        except (feeding.Stalled, stack.WorkerError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    if fed.is_stalled:
        sys.stderr.write("Nothing ended any more, so the replay was given up before its end.\n")
    sys.stderr.write(f"The latest submission was {fed.latest_seconds:.3f} s late.\n")
    json.dump([vars(launch) for launch in recorded.launches(began_at=fed.began_at)], sys.stdout)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labmgr.settings")
    sys.exit(main(json.loads(sys.argv[1])))
