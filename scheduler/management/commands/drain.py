from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from scheduler import draining
from scheduler.draining import Drained
from scheduler.management.places import place_named
from scheduler.models import Device, Node


class Command(BaseCommand):
    help = "Let a node, or one device, take no new jobs, or say another reason why. What runs there goes on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("place", metavar="NODE|NODE:INDEX")
        parser.add_argument("--because", default="", metavar="TEXT", help="shown to whoever waits for it")

    def handle(self, *args: Any, **options: Any) -> None:
        place = place_named(options["place"])
        try:
            drained = _drain(place, options["because"])
        except draining.BadReason as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"{options['place']}: {_told(drained)}")


def _drain(place: Node | Device, because: str) -> Drained:
    now = timezone.now()
    if isinstance(place, Node):
        return draining.drain_nodes(node_ids=[place.pk], user=None, now=now, because=because)
    return draining.drain(device_ids=[place.pk], user=None, now=now, because=because)


def _told(drained: Drained) -> str:
    if drained.new:
        return "takes no new jobs; what runs there goes on."
    if drained.retold:
        return f"takes no jobs already, and has another reason now. Before: {_one(drained.retold)}"
    return f"takes no jobs already. {_one(drained.kept)}"


def _one(told: Mapping[int, str]) -> str:
    return next(iter(told.values()), "")
