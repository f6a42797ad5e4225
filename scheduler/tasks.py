"""Celery's side: messages that wake and mirror. They may be lost, late or doubled, and nothing changes."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from celery import shared_task
from celery.signals import celeryd_after_setup, worker_shutting_down
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError

from experiments import learning
from scheduler import residents
from scheduler.placed import Charge

log = logging.getLogger(__name__)

_learning = Lock()  # once at a time is enough: what came in between is seen by the next
_to_wake: set[str] = set()  # nodes whose message has not gone out
_announcer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="announcer")


@shared_task
def attach(*, job_id: int, **_: Any) -> None:
    """Run as long as the job does, so that Flower shows it under its run's name."""
    residents.attach(job_id)
    connection.close()


@shared_task
def look(*, node: str, **_: Any) -> None:
    """Jobs were placed on a simulated node, which mirrors none of them."""
    residents.wake(node)


@shared_task
def tick(**_: Any) -> None:
    residents.wake_tickers()


@shared_task
def learn(**_: Any) -> None:
    """What runs have taught goes into calibrations and drafts."""
    if not _learning.acquire(blocking=False):
        return
    try:
        learning.learn(now=timezone.now())
    finally:
        _learning.release()
        connection.close()


def wake_tickers() -> None:
    """Have the control worker look now; without a broker it looks in a moment."""
    _announcer.submit(_wake_tickers)


def send_attach(charge: Charge) -> None:
    """Tell the node's worker about a job, on the queue of its first device, without waiting for the broker."""
    job = charge.job
    if job.node.is_simulated:
        _wake_later(job.node.name)
        return
    queue = f"gpu.{job.node.name}.{charge.devices[0].index}"
    _announcer.submit(_announce, job.pk, queue, f"{job.experiment.name}/{job.title}")


def _wake_tickers() -> None:
    try:
        tick.apply_async()
    except (OperationalError, OSError) as error:
        log.warning("the ticker is not woken, the broker is away: %s", error)


def _wake_later(node: str) -> None:
    """One message for all that is placed on a node until it goes out."""
    if node not in _to_wake:
        _to_wake.add(node)
        _announcer.submit(_wake, node)


def _wake(node: str) -> None:
    _to_wake.discard(node)
    try:
        look.apply_async(kwargs={"node": node}, queue=f"gpu.{node}.0")
    except (OperationalError, OSError) as error:
        log.warning("node %s is not woken, the broker is away: %s", node, error)


def _announce(job_id: int, queue: str, name: str) -> None:
    """A broker that is away, or hangs, is no fault: the agent looks for itself."""
    try:
        attach.apply_async(kwargs={"job_id": job_id}, queue=queue, shadow=name)
    except (OperationalError, OSError) as error:
        log.warning("job %s is not announced, the broker is away: %s", job_id, error)


@celeryd_after_setup.connect
def _start_residents(instance: Any, **_: Any) -> None:
    residents.start(queues=list(instance.app.amqp.queues.consume_from), send=send_attach)


@worker_shutting_down.connect
def _stop_residents(**_: Any) -> None:
    residents.stop()
