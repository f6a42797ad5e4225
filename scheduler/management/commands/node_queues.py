import json
from typing import Any

from django.core.management.base import BaseCommand

from scheduler import residents


class Command(BaseCommand):
    help = "The queues that this machine's worker consumes, as JSON."

    def handle(self, *args: Any, **options: Any) -> None:
        readings = residents.readings()
        slots = sum(residents.SLOTS_A_DEVICE * max(1, len(reading.devices)) for reading in readings)
        queues = [queue for reading in readings for queue in residents.queues_of(reading)]
        self.stdout.write(json.dumps({"node": readings[0].name, "queues": queues, "slots": slots}))
