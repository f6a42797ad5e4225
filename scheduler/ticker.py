"""The ticker: looks whether something was freed or is needed, and ticks until all of it is served.

A burst of requests is one pass. It reads the requests from the database, so that it needs no broker; a message only
makes it look sooner. The agents tick for what they have freed themselves, so that under load most of what is left to it
is new runs: a pass that placed something is followed by the next at once, one that placed nothing by a wait.
"""

import logging
import threading
import time
from datetime import timedelta

from django.db import DatabaseError, connection
from django.utils import timezone

from experiments.models import Run
from scheduler import dispatch, joining
from scheduler.dispatch import Send
from scheduler.models import TickRequest
from scheduler.reaper import Reaper

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.5
PAUSE_SECONDS = 0.02
PAUSE_OF_PASS = 4  # times as long as a pass took: most of a busy machine is left to the agents
SAFETY_NET = timedelta(seconds=2)
WHOLE_QUEUE_EVERY_SECONDS = 5.0  # for what is behind the front of a long queue and could start all the same


class Ticker(threading.Thread):
    def __init__(self, *, send: Send) -> None:
        super().__init__(name="ticker", daemon=True)
        self._send = send
        self._reaper = Reaper()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._whole_at = 0.0  # monotonic

    def run(self) -> None:
        started, placed = False, 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                started = started or (resume() and joining.mark_run_root())
                placed = self.step()
                self._reaper.look()
            except DatabaseError:
                log.exception("the database is away; the next tick is tried in a moment")
                connection.close()
            except Exception:  # without ticks nothing would ever start
                log.exception("a fault of the tick; the next one is tried in a moment")
            took = time.monotonic() - began if placed else 0.0
            if not placed:
                self._wake.wait(LOOK_EVERY_SECONDS)
            self._wake.clear()
            self._stopping.wait(min(LOOK_EVERY_SECONDS, max(PAUSE_SECONDS, PAUSE_OF_PASS * took)))
            placed = 0
        connection.close()

    def step(self) -> int:
        """Serve what is requested now, if a tick is due; how many jobs were placed."""
        asked = _asked()
        if asked is None:
            return 0
        whole = time.monotonic() >= self._whole_at
        placed = _serve(asked, send=self._send, most=None if whole else dispatch.MOST_LOOKED_AT)
        if whole:
            self._whole_at = time.monotonic() + WHOLE_QUEUE_EVERY_SECONDS
        return placed

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self.wake()


def resume() -> bool:
    """End the pause that a stop of labmgr made."""
    TickRequest.objects.get_or_create(pk=1)
    TickRequest.objects.filter(pk=1).update(is_stopping=False)
    return True


def _serve(asked: int, *, send: Send, most: int | None = None) -> int:
    now = timezone.now()
    placed = dispatch.tick(now=now, send=send, most=most)
    TickRequest.objects.filter(pk=1, served__lte=asked).update(served=asked, ticked_at=now)
    return placed


def _asked() -> int | None:
    """The number of requests, if a tick is due. A last tick that lies ahead tells of a clock that was set back."""
    row = TickRequest.objects.get(pk=1)
    if row.served < row.requested:
        return row.requested
    due = row.ticked_at is None or not timedelta(0) <= timezone.now() - row.ticked_at < SAFETY_NET
    newly_queued = (
        Run.objects.queued().filter(queued_at__gt=row.ticked_at).exists() if row.ticked_at else False
    )
    return row.requested if newly_queued or (due and Run.objects.queued().exists()) else None
