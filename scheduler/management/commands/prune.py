from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from experiments.shell import experiment_named
from scheduler import pruning


class Command(BaseCommand):
    help = "Remove checkpoints of an experiment's finished fine-tunes. The one that each run kept stays."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the experiment")
        parser.add_argument("--keep", choices=["last", "best", "adapter"], default="last")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = experiment_named(options["name"])
        try:
            freed_mib = pruning.prune(experiment=experiment, keep=options["keep"])
        except (pruning.Busy, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{experiment.name}: {freed_mib:,.1f} MiB are free again.")
