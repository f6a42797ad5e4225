"""The half of the labmgr peer that needs Django: plans, approves, waits, and tells what the rows say.

python -m tests.benchmarks.queue_peers.labmgr_session JSON      (labmgr_peer starts it; nobody types it)
"""

import json
import sys
import time
from datetime import datetime
from typing import Any

import django

from tests.benchmarks.queue_peers.recorder import now as boot_now

LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 300.0


def main(told: dict[str, Any]) -> None:
    django.setup()
    from django.utils import timezone

    from experiments import control, planning
    from scheduler import tasks

    document = _document(**told)
    experiment = planning.store(
        plan=planning.plan(data=document, user=None, now=timezone.now()), user=None, now=timezone.now()
    )
    began = boot_now()
    control.approve(experiment=experiment, user=None, now=timezone.now())
    tasks.wake_tickers()
    approved = boot_now()
    unfinished = _wait(experiment.pk, told["count"] * told["seconds"])
    result = {"submitted_at": began, "approve_seconds": approved - began, "unfinished": unfinished}
    json.dump(result | {"jobs": _jobs(experiment.pk)}, sys.stdout)


def _document(*, name: str, argv: list[str], count: int, seconds: float, slots: int) -> dict[str, Any]:
    return {
        "name": name,
        "question": "How long does a slot stand idle between two runs?",
        "command": {"argv": argv},
        "factors": {"number": list(range(count))},
        "max_parallel": slots,
    }


def _wait(experiment_id: int, most_seconds: float) -> int:
    """Until all has ended; how many have not when patience ran out."""
    from experiments.models import Run

    left = Run.objects.filter(cell__experiment_id=experiment_id).unfinished()
    deadline = time.monotonic() + PATIENCE_SECONDS + most_seconds
    while (count := left.count()) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return count


def _jobs(experiment_id: int) -> list[dict[str, Any]]:
    """By the clock by which runs are noted."""
    from scheduler.models import Lease

    ahead = time.time() - boot_now()
    names = ("placed_at", "claimed_at", "started_at", "ended_at")
    columns = ("job__launches__run__name", "job__launches__run__state", "device__index")
    leases = Lease.objects.filter(job__experiment_id=experiment_id).order_by("job_id")
    return [
        {"run": run, "state": state, "slot": str(index)}
        | {name: _since_boot(at, ahead) for name, at in zip(names, times, strict=True)}
        for run, state, index, *times in leases.values_list(*columns, *(f"job__{name}" for name in names))
    ]


def _since_boot(at: datetime | None, ahead: float) -> float | None:
    return at.timestamp() - ahead if at else None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
