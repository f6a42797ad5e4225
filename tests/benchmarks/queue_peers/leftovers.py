"""Ending what a peer's daemons leave behind when they go, such as the steps of jobs."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from scheduler.launchers import process_tree
from tests.benchmarks.queue_peers.base import PeerError

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever loses its parent meanwhile becomes ours, and is ended with all that descends from it."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = set(process_tree.descendants(os.getpid()))
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        unkillable = process_tree.kill_until_gone(lambda: set(process_tree.descendants(os.getpid())) - before)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        _bury()
        if unkillable:
            raise PeerError(f"These processes were left behind and cannot be ended: {unkillable}")


def _bury() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
