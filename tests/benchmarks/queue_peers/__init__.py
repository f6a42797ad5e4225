"""The queues that are measured side by side, each in a file."""

from tests.benchmarks.queue_peers.base import Peer
from tests.benchmarks.queue_peers.celery_peer import PlainCelery
from tests.benchmarks.queue_peers.labmgr_peer import Labmgr
from tests.benchmarks.queue_peers.slurm import Slurm
from tests.benchmarks.queue_peers.spooler import TaskSpooler
from tests.benchmarks.queue_peers.xargs_peer import Xargs

PEERS: dict[str, Peer] = {
    "xargs": Xargs(),
    "task-spooler": TaskSpooler(),
    "celery": PlainCelery(),
    "slurm": Slurm(tuned=False),
    "slurm-tuned": Slurm(tuned=True),
    "labmgr": Labmgr(on_postgres=True),
    "labmgr-sqlite": Labmgr(on_postgres=False),
}
