"""Whether this machine may join a lab as a node: asked before its worker starts, so that nothing goes wrong later.

The control plane marks the run root: a random id in a file there, and the same id in the database. A machine that
finds another id, or none, looks at another folder, and what its jobs write would be seen by nobody.
"""

import logging
import secrets
import tempfile
from pathlib import Path

from django.conf import settings
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q

from experiments.states import OPEN_JOB_STATES, JobState
from scheduler import sessions
from scheduler.launchers.process_tree import boot_id
from scheduler.models import AWAY_AFTER_SECONDS, ControlPlane, Job, Node

log = logging.getLogger(__name__)

MARK = ".labmgr-run-root"


def mark_run_root() -> bool:
    """By the control plane, at its start. Always True; a run root that cannot be written is told of."""
    row, _ = ControlPlane.objects.get_or_create(pk=1)
    path = settings.RUN_ROOT / MARK
    try:
        settings.RUN_ROOT.mkdir(parents=True, exist_ok=True)
        mark = row.run_root_mark or _read(path) or secrets.token_hex(16)
        if _read(path) != mark:
            path.write_text(f"{mark}\n", encoding="ascii")
    except OSError as error:
        log.error("the run root cannot be marked, so no other node can join: %s", error)
        return True
    ControlPlane.objects.filter(pk=1).update(run_root=str(settings.RUN_ROOT), run_root_mark=mark)
    return True


def is_run_root_there() -> bool:
    """Whether the run root has the mark that the head gave it: an empty folder where it is to be mounted has none."""
    row = ControlPlane.objects.filter(pk=1).first()
    return row is None or not row.run_root_mark or _read(settings.RUN_ROOT / MARK) == row.run_root_mark


def problems() -> list[str]:
    """Why this machine may not join, each with what to do; empty when it may."""
    try:
        return _migrations() or [*_run_root(), *_name()]
    except OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        return [
            f"The database that DATABASE_URL names does not answer ({reason}). Correct the URL, or start it."
        ]


def _migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    lacking = [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if lacking:
        return [
            f"The database lacks {len(lacking)} migrations of this checkout ({lacking[-1]} and others): the lab runs "
            "an older version, or was never started. Upgrade and start the head first (./lab up there)."
        ]
    unknown = [
        name for name in executor.loader.applied_migrations if name not in executor.loader.disk_migrations
    ]
    if unknown:
        return [
            f"The database has migrations that this checkout lacks ({'.'.join(unknown[-1])}): the lab runs a newer "
            "version. Check out the commit that the head runs, here too."
        ]
    return []


def _run_root() -> list[str]:
    row = ControlPlane.objects.filter(pk=1).first()
    if row is None or not row.run_root_mark:
        return ["The lab's run root is not marked yet: start the head first (./lab up there)."]
    if str(settings.RUN_ROOT) != row.run_root:
        return [
            f"LABMGR_RUN_ROOT is {settings.RUN_ROOT} here and {row.run_root} on the head. Paths are stored as they "
            "are, so share that folder under the same path, and name it in LABMGR_RUN_ROOT."
        ]
    found = _read(settings.RUN_ROOT / MARK)
    if found != row.run_root_mark:
        told = "has the marker of another lab" if found else f"has no marker ({MARK})"
        return [
            f"{settings.RUN_ROOT} is not the folder of that path on the head: it {told}. Mount the one that the "
            "head uses. (If it is the one, start the head again: it writes the marker.)"
        ]
    return _writable(settings.RUN_ROOT)


def _writable(folder: Path) -> list[str]:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return []
    except OSError as error:
        return [
            f"{folder} cannot be written here: {error.strerror}. Use one account with the same user id everywhere."
        ]


def _name() -> list[str]:
    """The session is compared by boot and by control folder, since that is what jobs are known by."""
    name = settings.NODE_NAME
    elsewhere = ~Q(boot_id=boot_id()) | ~Q(session_control=sessions.control_id())
    holder = Node.objects.filter(elsewhere, name=name, session_epoch__gt=0).first()
    if holder is None:
        return []
    if Node.objects.live().filter(pk=holder.pk).exists():
        return [
            f"The node name {name} is in use by the worker of {holder.session_place}. Choose another in "
            f"LABMGR_NODE_NAME, or stop that worker first. (If this machine was restarted just now, or the worker "
            f"stopped, wait {AWAY_AFTER_SECONDS} s.)"
        ]
    return _left_behind(holder)


def _left_behind(holder: Node) -> list[str]:
    """Jobs that another worker of this name launched, and that may live where it was."""
    same_machine = holder.session_place.partition(":")[0] == sessions.place().partition(":")[0]
    restarted = same_machine and holder.boot_id != boot_id()
    if holder.session_control == sessions.control_id() or restarted:
        return []
    launched = Job.objects.filter(node=holder, state__in=OPEN_JOB_STATES - {JobState.PLACED})
    ids = ", ".join(str(pk) for pk in launched.order_by("pk").values_list("pk", flat=True)[:5])
    if not ids:
        return []
    return [
        f"Jobs of the node {holder.name} are open (job {ids}), and were launched by the worker of "
        f"{holder.session_place}, whose control folder this is not. Start the worker there, or choose another "
        "name in LABMGR_NODE_NAME."
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
