from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from experiments.shell import experiment_named
from experiments.summaries import FORMATS, render, summarise


class Command(BaseCommand):
    help = "The table of an experiment: one row a cell."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--format", choices=FORMATS, default="table")

    def handle(self, *args: Any, **options: Any) -> None:
        summary = summarise(experiment_named(options["name"]))
        self.stdout.write(render(summary, options["format"]), ending="")
        if options["format"] == "json":
            self.stdout.write("")
