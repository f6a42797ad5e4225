"""What a replay's database has recorded of every launch."""

from collections import defaultdict

from experiments.states import RunState
from labmgr.replay.report import RecordedLaunch
from scheduler.models import Launch, Lease


def launches(*, began_at: float) -> list[RecordedLaunch]:
    held: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for job_id, device_id, memory_mib in Lease.objects.values_list("job_id", "device_id", "memory_mib"):
        held[job_id].append((device_id, memory_mib))
    columns = ("run__name", "run__state", "run__fencing_token", "job_id", "job__node__pool")
    rows = Launch.objects.values_list(*columns, "job__started_at", "job__ended_at")
    return [
        RecordedLaunch(
            index=int(name),
            started=None if started_at is None else started_at.timestamp() - began_at,
            ended=None if ended_at is None else ended_at.timestamp() - began_at,
            succeeded=state == RunState.SUCCEEDED and token == job_id,
            pool=pool,
            devices=tuple(device_id for device_id, _ in held[job_id]),
            memory_mib=max((memory_mib for _, memory_mib in held[job_id]), default=0),
        )
        for name, state, token, job_id, pool, started_at, ended_at in rows.order_by("job_id")
    ]
