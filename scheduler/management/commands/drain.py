from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from scheduler import draining
from scheduler.management.places import place_named
from scheduler.models import Node


class Command(BaseCommand):
    help = "Let a node, or one device, take no new jobs. What runs there goes on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("place", metavar="NODE|NODE:INDEX")
        parser.add_argument("--because", default="", metavar="TEXT", help="shown to whoever waits for it")

    def handle(self, *args: Any, **options: Any) -> None:
        place, because = place_named(options["place"]), options["because"]
        if isinstance(place, Node):
            changed = draining.drain_nodes(node_ids=[place.pk], user=None, because=because)
        else:
            changed = draining.drain(device_ids=[place.pk], user=None, because=because)
        told = "takes no new jobs; what runs there goes on" if changed else "takes no jobs already"
        self.stdout.write(f"{options['place']}: {told}.")
