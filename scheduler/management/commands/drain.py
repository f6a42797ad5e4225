from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduler import draining
from scheduler.management.places import place_named
from scheduler.models import Device, Node


class Command(BaseCommand):
    help = "Let a node, or one device, take no new jobs. What runs there goes on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("place", metavar="NODE|NODE:INDEX")
        parser.add_argument("--because", default="", metavar="TEXT", help="shown to whoever waits for it")

    def handle(self, *args: Any, **options: Any) -> None:
        place = place_named(options["place"])
        try:
            changed = _drain(place, options["because"])
        except draining.BadReason as refusal:
            raise CommandError(str(refusal)) from refusal
        told = "takes no new jobs; what runs there goes on" if changed else "takes no jobs already"
        self.stdout.write(f"{options['place']}: {told}.")


def _drain(place: Node | Device, because: str) -> int:
    if isinstance(place, Node):
        return draining.drain_nodes(node_ids=[place.pk], user=None, because=because)
    return draining.drain(device_ids=[place.pk], user=None, because=because)
