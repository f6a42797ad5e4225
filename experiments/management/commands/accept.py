from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control
from experiments.control import AlreadyDecided
from experiments.documents import InvalidDocument
from experiments.lifecycle import NotADraft
from experiments.planning import Outdated
from experiments.shell import problems_as_text, proposal_named


class Command(BaseCommand):
    help = "Accept a proposal of a draft."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the experiment")
        parser.add_argument("key", help="of the proposal, as `plan` prints it")

    def handle(self, *args: Any, **options: Any) -> None:
        proposal = proposal_named(options["name"], options["key"])
        try:
            made = control.accept(proposal=proposal, user=None, now=timezone.now())
        except (NotADraft, Outdated, AlreadyDecided) as error:
            raise CommandError(str(error)) from error
        except InvalidDocument as invalid:
            raise CommandError(problems_as_text(invalid)) from invalid
        self.stdout.write(f"{proposal.key}: accepted. See the draft: {made.name}")
