from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from scheduler import draining
from scheduler.management.places import place_named
from scheduler.models import Device, Node


class Command(BaseCommand):
    help = "Let a node, or one device, take jobs again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("place", metavar="NODE|NODE:INDEX")

    def handle(self, *args: Any, **options: Any) -> None:
        place = place_named(options["place"])
        if isinstance(place, Node):
            changed = draining.undrain_nodes(node_ids=[place.pk], user=None)
        else:
            changed = draining.undrain(device_ids=[place.pk], user=None)
        told = "takes jobs again" if changed else "was not drained"
        self.stdout.write(f"{options['place']}: {told}{_still_withheld(place)}.")


def _still_withheld(place: Node | Device) -> str:
    """What keeps it from taking jobs all the same."""
    if isinstance(place, Device):
        node = Node.objects.get(pk=place.node_id)
        return f", but its node is drained: undrain {node}" if node.is_draining else ""
    states = [Device.State.DRAINED, Device.State.QUARANTINED]
    left = place.devices.filter(state__in=states).select_related("node")
    return f", without {', '.join(device.place for device in left)}" if left else ""
