"""Plain Celery: eight prefork processes, each of which runs a process for its task and waits for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from labmgr.replay import servers
from tests.benchmarks.queue_peers.base import (
    Outcome,
    PeerError,
    Work,
    running,
    tail,
    wait_for,
    wait_until_done,
)

REPOSITORY = Path(__file__).resolve().parents[3]
TASKS = "tests.benchmarks.queue_peers.celery_tasks"


class PlainCelery:
    name = "Celery"
    queue_on_disk = "Redis, fsync always"

    def missing(self) -> str | None:
        return None  # labmgr itself needs it

    def run(self, work: Work, folder: Path) -> Outcome:
        with servers.redis(folder, appendfsync="always") as url:
            environment = dict(os.environ) | {"IDLE_GAP_BROKER": url}
            command = [sys.executable, "-m", "celery", "-A", TASKS, "worker", "-c", str(work.slots)]
            command += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
            log = folder / "worker.log"
            with running(command, log, cwd=REPOSITORY, env=environment) as worker:
                wait_for(lambda: " ready." in log.read_text(), what="The Celery worker", log=log)
                submitted_at = _submit(work, environment)
                wait_until_done(work, check=lambda: _require_alive(worker, log))
        return Outcome(submitted_at=submitted_at)


def _submit(work: Work, environment: dict[str, str]) -> float:
    """In a process of its own, since the broker's address is read when Celery's application is made."""
    code = (
        "import json, sys, time; from tests.benchmarks.queue_peers.celery_tasks import run;"
        "runs = json.load(sys.stdin); began = time.clock_gettime(time.CLOCK_BOOTTIME);"
        "[run.delay(argv) for argv in runs]; print(began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([work.argv(str(number)) for number in range(work.count)]),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )
    if done.returncode:
        raise PeerError(f"Nothing was sent to Celery: {done.stderr[-500:]}")
    return float(done.stdout)


def _require_alive(worker: subprocess.Popen[bytes], log: Path) -> None:
    if worker.poll() is not None:
        raise PeerError(f"The Celery worker ended: {tail(log)}")
