"""task-spooler: a queue in the memory of its server, for one user of one machine."""

import os
import subprocess
from pathlib import Path

from tests.benchmarks.queue_peers.base import Outcome, Work, lacking, wait_until_done
from tests.benchmarks.queue_peers.recorder import now


class TaskSpooler:
    name = "task-spooler"
    queue_on_disk = "no"  # TS_SAVELIST is only written when it is killed by a signal that it can catch

    def missing(self) -> str | None:
        return lacking(["tsp"], install="apt-get install task-spooler")

    def run(self, work: Work, folder: Path) -> Outcome:
        socket, output = folder / "tsp.sock", folder / "output"
        output.mkdir()
        told = {
            "TS_SOCKET": str(socket),
            "TS_SLOTS": str(work.slots),
            "TMPDIR": str(output),
            "TS_MAXFINISHED": "10",
        }
        environment = os.environ | told
        _tsp(environment, "-S", str(work.slots))
        try:
            submitted_at = now()
            for number in range(work.count):
                _tsp(environment, "-n", *work.argv(str(number)))
            wait_until_done(work)
        finally:
            _tsp(environment, "-K")
        return Outcome(submitted_at=submitted_at)


def _tsp(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run(["tsp", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
