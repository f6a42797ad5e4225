import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduler import joining


class Command(BaseCommand):
    help = "Whether this machine may join as a node: database, migrations, run root, name. Changes nothing."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help='print {"problems": [...]}')

    def handle(self, *args: Any, **options: Any) -> None:
        problems = joining.problems()
        if options["json"]:
            self.stdout.write(json.dumps({"problems": problems}))
        elif problems:
            raise CommandError("\n".join(problems))
        else:
            self.stdout.write("This machine may join.")
