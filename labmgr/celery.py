import os
from typing import Any

from celery import Celery
from celery.signals import worker_init
from celery.worker.control import Panel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labmgr.settings")

# What Flower asks of a worker. Whoever may see Flower may look; runs are controlled in the admin, by permission.
LOOKING = {
    *("ping", "hello", "heartbeat", "enable_events", "stats", "conf", "active", "active_queues"),
    *("registered", "reserved", "scheduled", "revoked", "query_task", "report"),
}

app = Celery("labmgr")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def obey_no_remote_control(**_: Any) -> None:
    """No shutdown, revoke, rate limit or change of queues by message."""
    for name in set(Panel.data) - LOOKING:
        del Panel.data[name]
