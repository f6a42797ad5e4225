"""Nodes and devices as people name them in commands: NODE, or NODE:INDEX as `devices` prints it."""

from django.core.management.base import CommandError

from scheduler.models import Device, Node


def place_named(text: str) -> Node | Device:
    """Raises CommandError, with the nodes that there are."""
    name, _, index = text.rpartition(":")
    if not name or not index.isdecimal():
        return _node_named(text)
    here = _node_named(name).devices.exclude(state=Device.State.GONE)
    device = here.filter(index=index).select_related("node").first()
    if device is None:
        raise CommandError(f"Node {name} has no device {index}. See `devices`.")
    return device


def _node_named(name: str) -> Node:
    node = Node.objects.filter(name=name).first()
    if node is None:
        known = ", ".join(Node.objects.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"There is no node {name!r}. Nodes: {known}.")
    return node
