"""Celery's side: messages that wake and mirror. They may be lost, late or doubled, and nothing changes."""

import logging
from typing import Any

from celery import shared_task
from celery.signals import celeryd_after_setup, worker_shutting_down
from django.db import connection
from kombu.exceptions import OperationalError

from scheduler import residents
from scheduler.models import Job

log = logging.getLogger(__name__)


@shared_task
def attach(*, job_id: int, **_: Any) -> None:
    """Run as long as the job does, so that Flower shows it under its run's name."""
    residents.attach(job_id)
    connection.close()


@shared_task
def tick(**_: Any) -> None:
    residents.wake_tickers()


def send_attach(job: Job) -> None:
    """Tell the node's worker about a job. A broker that is away is no fault: the agent looks for itself."""
    device = job.leases.order_by("device__index").select_related("device__node").first()
    index = 0 if job.node.is_simulated or device is None else device.device.index
    try:
        attach.apply_async(
            kwargs={"job_id": job.pk},
            queue=f"gpu.{job.node.name}.{index}",
            shadow=f"{job.experiment.name}/{job.title}",
        )
    except OperationalError as error:
        log.warning("job %s is not announced, the broker is away: %s", job.pk, error)


@celeryd_after_setup.connect
def _start_residents(instance: Any, **_: Any) -> None:
    residents.start(queues=list(instance.app.amqp.queues.consume_from), send=send_attach)


@worker_shutting_down.connect
def _stop_residents(**_: Any) -> None:
    residents.stop()
