"""The tick: read without a lock, decide in memory, apply in short transactions of guarded updates (see applying).

What went stale meanwhile is decided anew by the next tick. Messages go out after commit; the sender is handed in.
"""

from datetime import datetime

from django.db.models import F

from scheduler import applying, auto_windows, queue
from scheduler.applying import Send
from scheduler.models import TickRequest

__all__ = ["FEW_LOOKED_AT", "MOST_LOOKED_AT", "Send", "request_tick", "tick"]

MOST_LOOKED_AT = 500  # of a pool's queue beyond one for each free device, by a tick that must be quick
FEW_LOOKED_AT = 32  # likewise by an agent that refills what it has just freed; the ticker follows


def tick(
    *,
    now: datetime,
    send: Send,
    pool: str | None = None,
    most: int | None = None,
    claiming_node_id: int | None = None,
) -> int:
    """Start what can start, of one pool where it is named; returns how many jobs were placed.

    `most` bounds how many queued runs of a pool are looked at (see queue.decide). An agent that ticks claims what it
    places on its own node, and leaves it to the ticker to let windows grow; whether the queue is paused is asked under the
    locks in any case. Ticks may run side by side.
    """
    if claiming_node_id is None:
        if TickRequest.objects.halted().exists():
            return 0
        auto_windows.adjust(now=now, pool=pool, most=most)
    decision = queue.decide(now=now, pool=pool, most=most)
    return applying.apply(
        placements=decision.placements, now=now, send=send, claiming_node_id=claiming_node_id
    )


def request_tick() -> None:
    """Something was freed or is needed: within the transaction that did it, so that no wake-up is lost."""
    row = TickRequest.objects.filter(pk=1)
    if not row.update(requested=F("requested") + 1):
        _, created = TickRequest.objects.get_or_create(pk=1, defaults={"requested": 1})
        if not created:  # somebody else's first request came in between, and did not count ours
            row.update(requested=F("requested") + 1)
