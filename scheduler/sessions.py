"""A node's session: one agent acts for a node, and everybody can tell whether it is there.

The agent that came last has the highest epoch. It renews the session in the database, and is judged by the
database's clock; the renewals of an older one hit no row, which is how that one learns to stop. Once renewed, it writes
into the node's fence file until when jobs whose runs another node may take are allowed to go on (launchers.fence).

Both sides err towards ending a job too early. The time that counts on the node is from before a renewal was sent; the
fence is set before the database says that there is one, and lifted after the database says that there is none.
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import F
from django.db.models.functions import Now

from scheduler.launchers import fence
from scheduler.launchers.job_tree import boot_clock
from scheduler.launchers.process_tree import boot_id
from scheduler.models import Node
from scheduler.paths import fence_file

log = logging.getLogger(__name__)

OTHERS_SEEN_WITHIN = timedelta(days=1)  # a node that was away for longer takes no runs
LONGEST_RENEWAL_SECONDS = 5.0
CONTROL_ID = ".id"


class Standing(StrEnum):
    HELD = "held"
    LOST = "lost"  # it ran out, and the runs were taken; open it anew, and prove that nothing of them lives
    SUPERSEDED = "superseded"  # another agent acts for the node


def allowed_seconds() -> float:
    """How long after a renewal jobs may go on, so that TERM, grace and KILL are over when the session is."""
    margin: int = settings.NODE_MARGIN_SECONDS
    return float(settings.NODE_LOST_AFTER_SECONDS - settings.GRACE_SECONDS - margin)


def renewal_seconds() -> float:
    return min(LONGEST_RENEWAL_SECONDS, allowed_seconds() / 4)


def control_id() -> str:
    """Of this node's control folder. An agent with another control folder knows nothing of the jobs in this one."""
    path = settings.CONTROL_ROOT / CONTROL_ID
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = path.with_name(f"{CONTROL_ID}.{os.getpid()}")
        made.write_text(secrets.token_hex(16), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # of two that start at once, one wins
            os.link(made, path)
        made.unlink()
    return path.read_text(encoding="ascii")


def place() -> str:
    """Where this agent is, for people."""
    return f"{socket.gethostname()}:{settings.LABMGR_HOME}"


class Session:
    """Of one agent. The agent and its keeper may use it at once."""

    def __init__(self, *, node_name: str) -> None:
        self._name = node_name
        self._fence: Path = fence_file(control_root=settings.CONTROL_ROOT, node=node_name)
        self._guard = threading.Lock()
        self._epoch = 0  # of no agent: before it is opened
        self._due = 0.0
        self._standing = Standing.HELD
        self.has_to_prove = False

    def open(self) -> None:
        """Become the agent that acts for the node."""
        with self._guard:
            nodes = Node.objects.filter(name=self._name)
            nodes.update(
                session_epoch=F("session_epoch") + 1,
                boot_id=boot_id(),
                session_place=place(),
                session_control=control_id(),
            )
            row = nodes.get()
            self._epoch, self._standing = row.session_epoch, Standing.HELD
            self.has_to_prove = row.session_lost_at is not None
            self._renew()

    def keep(self) -> Standing:
        """Renew it where that is due, and say how it stands. Raises DatabaseError."""
        if not self._guard.acquire(blocking=False):
            return self._standing  # somebody is at it, and may be waiting for a database that is away
        try:
            if self._epoch and self._standing is Standing.HELD and boot_clock() >= self._due:
                self._renew()
            return self._standing
        finally:
            self._guard.release()

    def proven(self) -> None:
        """Nothing of the runs that were taken lives here: the node may be given jobs again."""
        with self._guard:
            Node.objects.filter(name=self._name, session_epoch=self._epoch).update(session_lost_at=None)
            self.has_to_prove = False
            self._renew()  # and the fence with it, or the first job would find it in the past

    def _renew(self) -> None:
        sent_at = boot_clock()
        stops_jobs = others_may_take(self._name)
        if stops_jobs and fence.read(self._fence) == fence.NEVER:
            fence.write(self._fence, sent_at + allowed_seconds())
        ours = Node.objects.filter(name=self._name, session_epoch=self._epoch)
        if not self.has_to_prove:
            ours = ours.filter(session_lost_at__isnull=True)
        renewed = ours.update(
            session_renewed_at=Now(),
            session_expires_at=Now() + timedelta(seconds=settings.NODE_LOST_AFTER_SECONDS),
            session_stops_jobs=stops_jobs,
        )
        if not renewed:
            self._standing = self._look_why()
            return
        self._due = sent_at + renewal_seconds()
        if not self.has_to_prove:  # else what lives of the taken runs would be allowed to go on
            fence.write(self._fence, sent_at + allowed_seconds() if stops_jobs else fence.NEVER)

    def _look_why(self) -> Standing:
        epoch = Node.objects.values_list("session_epoch", flat=True).get(name=self._name)
        if epoch == self._epoch:
            log.warning("the session of node %s ran out, and its runs were taken", self._name)
            return Standing.LOST
        log.error(
            "another worker acts for node %s now (session %s); this one stops watching", self._name, epoch
        )
        return Standing.SUPERSEDED


def others_may_take(name: str) -> bool:
    """Whether there is another node of this kind, seen lately and with devices to give."""
    kind = Node.objects.filter(name=name).values("is_simulated")
    others = Node.objects.exclude(name=name).filter(is_simulated__in=kind, is_draining=False)
    seen = others.filter(session_renewed_at__gt=Now() - OTHERS_SEEN_WITHIN)
    return seen.filter(devices__state="AVAILABLE").exists()


class Keeper(threading.Thread):
    """Renews a session whatever its agent waits for, with a connection of its own."""

    def __init__(self, session: Session, *, changed: Callable[[], None]) -> None:
        super().__init__(name="keeper of a session", daemon=True)
        self._session = session
        self._changed = changed
        self._stopping = threading.Event()

    def run(self) -> None:
        was = Standing.HELD
        while not self._stopping.wait(min(1.0, renewal_seconds() / 2)):
            try:
                standing = self._session.keep()
            except DatabaseError as error:
                log.warning("the session could not be renewed: %s", str(error).partition("\n")[0])
                connection.close()
                continue
            except Exception:  # a keeper that died would lose the node
                log.exception("a fault while renewing the session; it is tried again in a moment")
                continue
            if standing is not was:
                was = standing
                self._changed()
        connection.close()

    def stop(self) -> None:
        self._stopping.set()
