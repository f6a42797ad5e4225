import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import telling
from experiments.documents import InvalidDocument
from experiments.models import Observation
from experiments.shell import settings_from


class Command(BaseCommand):
    help = "Say the conditions that the sources of observations do not: one by one, or for a whole tree."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("observation", nargs="*", type=int, help="its number")
        parser.add_argument("--tree", metavar="PATH", help="all that was harvested with this path")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", required=True)
        parser.add_argument(
            "--by", default="", metavar="NAME", help="who says so; else who runs this command"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        by = options["by"] or getpass.getuser()
        chosen = _chosen(options["observation"], options["tree"])
        said = settings_from(options["set"])
        try:
            count = telling.complete(observations=chosen, said=said, by=by, now=timezone.now())
        except InvalidDocument as invalid:
            raise CommandError("\n".join(str(problem) for problem in invalid.problems)) from invalid
        self.stdout.write(f"{count} of {len(chosen)} observations are complete.")


def _chosen(numbers: list[int], tree: str | None) -> list[Observation]:
    if bool(numbers) == bool(tree):
        raise CommandError("Give the numbers of observations, or --tree PATH.")
    found = telling.incomplete_ones(ids=numbers, tree=tree or "")
    if not found:
        raise CommandError(f"No incomplete observation is {'of ' + tree if tree else numbers}.")
    return found
