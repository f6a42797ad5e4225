"""The lookout: a thread beside a node's agent that looks at the node every few seconds."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from scheduler.inventory import looking, series
from scheduler.models import Node

log = logging.getLogger(__name__)

PRUNE_EVERY_LOOKS = 40


class Lookout(threading.Thread):
    """A thread of its own, since a GPU that is ill may keep NVML from answering for seconds."""

    def __init__(self, *, node_name: str, clock: Callable[[], datetime] = timezone.now) -> None:
        super().__init__(name=f"lookout of {node_name}", daemon=True)
        self._node_name = node_name
        self._clock = clock
        self._stopping = threading.Event()
        self._looked_at: datetime | None = None
        self._looks = 0

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except DatabaseError:
                log.exception("the database is away; the node is looked at again in a moment")
                connection.close()
            except Exception:  # one that died would let others' programs go unseen
                log.exception("a fault of the lookout; it looks again in a moment")
            self._stopping.wait(settings.READ_EVERY_SECONDS)
        connection.close()

    def step(self) -> None:
        """Look once; nothing before the agent has made its node."""
        node = Node.objects.filter(name=self._node_name).first()
        if node is None:
            return
        now = self._clock()
        looking.look(node=node, now=now, before=self._looked_at)
        if self._looks % PRUNE_EVERY_LOOKS == 0:
            series.prune(now=now)
        self._looked_at, self._looks = now, self._looks + 1

    def stop(self) -> None:
        self._stopping.set()
