from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from experiments import control
from experiments.models import Experiment
from experiments.shell import run_named


class Command(BaseCommand):
    help = "Cancel an experiment or a run; what runs is ended within its grace period."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of an experiment or a run, or a run's id")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        experiment = Experiment.objects.filter(name=options["name"]).first()
        if experiment is not None:
            cancelled = control.cancel_experiment(experiment=experiment, user=None, now=now)
        else:
            cancelled = control.cancel_run(run=run_named(options["name"]), user=None, now=now)
        told = "cancel requested" if cancelled else "nothing to cancel, it has ended already"
        self.stdout.write(f"{options['name']}: {told}.")
