from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import steering
from experiments.access import NotApproved
from experiments.shell import experiment_named
from scheduler import pausing


class Command(BaseCommand):
    help = "Let a paused experiment, or the paused queue, go on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="an experiment; without it, the whole queue")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] is None:
            goes_on, what = pausing.unpause_queue(user=None), "The queue"
        else:
            experiment = experiment_named(options["name"])
            what = experiment.name
            try:
                goes_on = steering.unpause(experiment=experiment, user=None, now=timezone.now())
            except NotApproved as error:
                raise CommandError(str(error)) from error
        self.stdout.write(f"{what}: {'goes on' if goes_on else 'was not paused'}.")
