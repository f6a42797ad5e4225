from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from experiments import control
from experiments.control import NotFinished
from experiments.shell import experiment_named


class Command(BaseCommand):
    help = "Delete an experiment and the rows of its runs and jobs. Observations and files stay."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--yes", action="store_true", help="really")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = experiment_named(options["name"])
        if not options["yes"]:
            raise CommandError(
                f"This deletes experiment {experiment.name!r} with its runs and jobs; add --yes."
            )
        try:
            control.forget(experiment=experiment)
        except NotFinished as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['name']}: forgotten.")
