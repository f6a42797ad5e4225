"""xargs: no queue at all, only processes in slots. What the machine can do; nothing survives it."""

import subprocess
from pathlib import Path

from tests.benchmarks.queue_peers.base import Outcome, Work, lacking
from tests.benchmarks.queue_peers.recorder import now

SCRIPT = 'exec "$0" "$1" "$2" "$3" "$SLOT"'


class Xargs:
    name = "xargs"
    queue_on_disk = "no"

    def missing(self) -> str | None:
        return lacking(["xargs"], install="apt-get install findutils")

    def run(self, work: Work, folder: Path) -> Outcome:
        program, record, seconds, *_ = work.argv("")
        command = ["xargs", f"-P{work.slots}", "-n1", "--process-slot-var=SLOT"]
        submitted_at = now()
        subprocess.run(
            [*command, "sh", "-c", SCRIPT, program, record, seconds],
            input="\n".join(map(str, range(work.count))),
            text=True,
            check=True,
        )
        return Outcome(submitted_at=submitted_at)
