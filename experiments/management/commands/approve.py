from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control
from experiments.control import Unanswered
from experiments.documents import InvalidDocument
from experiments.lifecycle import NotADraft
from experiments.planning import Outdated
from experiments.shell import experiment_named, problems_as_text, settings_from


class Command(BaseCommand):
    help = "Approve a plan: its runs are queued. What it leaves open is answered by --answer KEY=VALUE."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--answer", action="append", default=[], metavar="KEY=VALUE", help="for example fixed.epochs=2"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = experiment_named(options["name"])
        answers = settings_from(options["answer"])
        try:
            count = control.approve(experiment=experiment, user=None, now=timezone.now(), answers=answers)
        except (NotADraft, Outdated, Unanswered) as error:
            raise CommandError(str(error)) from error
        except InvalidDocument as invalid:
            raise CommandError(problems_as_text(invalid)) from invalid
        self.stdout.write(f"{experiment.name}: approved; {count} runs are queued.")
