"""The one task of the Celery peer: `celery -A tests.benchmarks.queue_peers.celery_tasks worker`."""

import os
import subprocess

from billiard.process import current_process
from celery import Celery

app = Celery("idle_gap", broker=os.environ["IDLE_GAP_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,  # what a killed worker held is done again instead of lost
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="run")
def run(argv: list[str]) -> None:
    """Each process of the pool is a slot."""
    subprocess.run([*argv[:-1], str(current_process().index)], check=True)
