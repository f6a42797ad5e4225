"""What people ask of the queue, computed when it is read."""

from collections.abc import Collection

from django.utils import timezone

from experiments.models import Run
from experiments.states import RunState
from scheduler import queue
from scheduler.models import Job, Launch, Node, SessionState


def waiting_reasons() -> dict[int, str]:
    """Why each queued run waits: run id -> a sentence."""
    reasons = dict(queue.decide(now=timezone.now()).waiting)
    dependent = (
        Run.objects.queued().exclude(depends_on__isnull=True).exclude(depends_on__state=RunState.SUCCEEDED)
    )
    for run_id, name in dependent.values_list("pk", "depends_on__name"):
        reasons[run_id] = f"waits for {name} to succeed"
    return reasons


def away_notes(*, run_ids: Collection[int] | None = None) -> dict[int, str]:
    """What to know of running runs whose node is not there: run id -> a sentence."""
    gone = Node.objects.with_session_state().filter(session_state__in=[SessionState.AWAY, SessionState.LOST])
    nodes = dict(gone.values_list("pk", "name"))
    seen = dict(gone.values_list("pk", "session_renewed_at"))
    carried = Launch.objects.filter(is_open=True, job__node__in=nodes)
    if run_ids is not None:
        carried = carried.filter(run__in=run_ids)
    return {
        run_id: f"waits: its node {nodes[node]} has been away since {seen[node]:%Y-%m-%d %H:%M:%S} UTC"
        for run_id, node in carried.values_list("run", "job__node")
    }


def jobs_of(run: Run) -> list[Job]:
    return list(Job.objects.filter(launches__run=run).select_related("node").order_by("pk"))
