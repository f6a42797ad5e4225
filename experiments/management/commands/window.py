from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import steering
from experiments.access import NotApproved
from experiments.models import Experiment
from experiments.shell import experiment_named
from experiments.steering import BadWindow


class Command(BaseCommand):
    help = (
        "Set how many jobs of an experiment may be open at once (max_parallel), while it runs. It ends none."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("max_parallel", metavar="N|auto")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = experiment_named(options["name"])
        try:
            steering.set_window(
                experiment=experiment, max_parallel=options["max_parallel"], user=None, now=timezone.now()
            )
        except (BadWindow, NotApproved) as error:
            raise CommandError(str(error)) from error
        experiment.refresh_from_db()
        self.stdout.write(f"{experiment.name}: {_told(experiment)}")


def _told(experiment: Experiment) -> str:
    automatic = ", moved automatically" if experiment.max_parallel_is_auto else ""
    window, open_jobs = f"at most {experiment.max_parallel} at a time{automatic}", experiment.open_jobs
    if open_jobs <= experiment.max_parallel:
        return f"{window}."
    return (
        f"{window}; {open_jobs} are open, and nothing starts until fewer than {experiment.max_parallel} are."
    )
