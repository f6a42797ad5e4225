import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from scheduler import stopping

LOOK_SECONDS = 0.2


class Command(BaseCommand):
    help = "End all running jobs; their runs are queued again. Nothing is placed until labmgr starts anew."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wait", action="store_true", help="until they have ended")
        parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")

    def handle(self, *args: Any, **options: Any) -> None:
        left = stopping.stop_jobs(now=timezone.now())
        deadline = time.monotonic() + options["timeout"]
        while left and options["wait"]:
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{left} jobs have not ended after {options['timeout']:g} s; see `devices`."
                )
            time.sleep(LOOK_SECONDS)
            left = stopping.stop_jobs(now=timezone.now())
        self.stdout.write("Nothing runs." if not left else f"{left} jobs are being ended.")
