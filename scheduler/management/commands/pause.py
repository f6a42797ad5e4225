from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import steering
from experiments.access import NotApproved
from experiments.shell import experiment_named
from scheduler import pausing


class Command(BaseCommand):
    help = (
        "Start nothing more of an experiment, or of the whole queue; what runs goes on. Outlasts a restart."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="an experiment; without it, the whole queue")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        if options["name"] is None:
            is_new, what = pausing.pause_queue(user=None, now=now), "The queue"
        else:
            experiment = experiment_named(options["name"])
            what = experiment.name
            try:
                is_new = steering.pause(experiment=experiment, user=None, now=now)
            except NotApproved as error:
                raise CommandError(str(error)) from error
        told = "paused; what runs goes on" if is_new else "paused already"
        self.stdout.write(f"{what}: {told}.")
