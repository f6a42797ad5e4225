"""Which waiting items start now, on which devices, and why the others wait. Pure: no database, no clock."""

from scheduler.allocation.items import (
    Decision,
    FreeDevice,
    FreeNode,
    Placement,
    QueueItem,
    Running,
    empty_node,
)
from scheduler.allocation.placing import could_hold, place

__all__ = [
    "Decision",
    "FreeDevice",
    "FreeNode",
    "Placement",
    "QueueItem",
    "Running",
    "could_hold",
    "empty_node",
    "place",
]
