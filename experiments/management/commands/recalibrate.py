from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from experiments import calibration


class Command(BaseCommand):
    help = "Fit anew what estimates are made from, where observations have come or gone."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shape", action="append", help="Only models of this shape; may be repeated.")

    def handle(self, *args: Any, **options: Any) -> None:
        fitted = calibration.refit(now=timezone.now(), shapes=options["shape"])
        self.stdout.write(f"{fitted} calibration{'s' if fitted != 1 else ''} fitted anew.")
