from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control
from experiments.lifecycle import NotADraft
from experiments.shell import experiment_named


class Command(BaseCommand):
    help = "Approve a plan: its runs are queued."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = experiment_named(options["name"])
        try:
            count = control.approve(experiment=experiment, user=None, now=timezone.now())
        except NotADraft as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{experiment.name}: approved; {count} runs are queued.")
