import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from experiments.queries import log_from, log_tail
from experiments.shell import run_named

FOLLOW_SECONDS = 0.5


class Command(BaseCommand):
    help = "The log of a run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", help="its name or id")
        parser.add_argument("--lines", type=int, default=60)
        parser.add_argument("--follow", action="store_true", help="go on until the run ends")

    def handle(self, *args: Any, **options: Any) -> None:
        run = run_named(options["run"])
        position = len(log_from(run, 0))
        self.stdout.write(log_tail(run, options["lines"]))
        if options["follow"]:
            self._follow(run.pk, position)

    def _follow(self, run_id: int, position: int) -> None:
        while True:
            run = run_named(str(run_id))
            text = log_from(run, position)
            position += len(text)
            self.stdout.write(text.decode("utf-8", "replace"), ending="")
            self.stdout.flush()
            if run.is_finished:
                return
            time.sleep(FOLLOW_SECONDS)
