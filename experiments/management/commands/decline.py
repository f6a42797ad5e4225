from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control
from experiments.control import AlreadyDecided
from experiments.lifecycle import NotADraft
from experiments.shell import proposal_named


class Command(BaseCommand):
    help = "Decline a proposal of a draft."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the experiment")
        parser.add_argument("key", help="of the proposal, as `plan` prints it")

    def handle(self, *args: Any, **options: Any) -> None:
        proposal = proposal_named(options["name"], options["key"])
        try:
            control.decline(proposal=proposal, user=None, now=timezone.now())
        except (NotADraft, AlreadyDecided) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{proposal.key}: declined.")
