"""What people ask of the queue, computed when it is read."""

from django.utils import timezone

from experiments.models import Run
from experiments.states import RunState
from scheduler import queue
from scheduler.models import Job


def waiting_reasons() -> dict[int, str]:
    """Why each queued run waits: run id -> a sentence."""
    reasons = dict(queue.decide(now=timezone.now()).waiting)
    dependent = (
        Run.objects.queued().exclude(depends_on__isnull=True).exclude(depends_on__state=RunState.SUCCEEDED)
    )
    for run_id, name in dependent.values_list("pk", "depends_on__name"):
        reasons[run_id] = f"waits for {name} to succeed"
    return reasons


def jobs_of(run: Run) -> list[Job]:
    return list(Job.objects.filter(launches__run=run).select_related("node").order_by("pk"))
