import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from experiments.queries import log_tail
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
        self.stdout.write(log_tail(run, options["lines"]))
        if options["follow"]:
            self._follow(run.pk, run.log_path.stat().st_size if run.log_path and run.log_path.exists() else 0)

    def _follow(self, run_id: int, position: int) -> None:
        while True:
            run = run_named(str(run_id))
            if run.log_path and run.log_path.exists():
                with run.log_path.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                position += len(text)
                self.stdout.write(text.decode("utf-8", "replace"), ending="")
                self.stdout.flush()
            if run.is_finished:
                return
            time.sleep(FOLLOW_SECONDS)
