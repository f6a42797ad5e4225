import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import telling
from experiments.documents import InvalidDocument
from experiments.shell import settings_from


class Command(BaseCommand):
    help = "Tell a figure that you know: observe seconds_per_step 4.34it/s --set model=NAME --set batch_size=4 ..."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("metric", help=", ".join(telling.UNITS))
        parser.add_argument("value", help="in its unit; a speed may be given in it/s")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a condition")
        parser.add_argument(
            "--by", default="", metavar="NAME", help="who says so; else who runs this command"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        by = options["by"] or getpass.getuser()
        said = settings_from(options["set"])
        try:
            told = telling.tell(
                metric=options["metric"], value=options["value"], said=said, by=by, now=timezone.now()
            )
        except InvalidDocument as invalid:
            raise CommandError("\n".join(str(problem) for problem in invalid.problems)) from invalid
        self.stdout.write(f"Observation {told.pk}: {told}, told by {by}.")
