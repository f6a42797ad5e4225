import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments.access import NotApproved
from experiments.documents import InvalidDocument
from experiments.rerunning import CannotRerun, Wanted, Which
from experiments.shell import experiment_named, problems_as_text
from scheduler import reruns

_HELP = {
    Which.FAILED: "what FAILED, and what was CANCELLED: by a person (CANCELLED_BY_USER), or because what it builds on "
    "did not succeed (DEPENDENCY_FAILED)",
    Which.MISSING: "what SUCCEEDED and whose results are not there any more",
    Which.CHANGED: "what ran with another dataset, model, recipe file, specification, or other versions of torchtune "
    "or vLLM than there are now, and what builds on that",
}


class Command(BaseCommand):
    help = "Run again what failed, is missing or has changed of an experiment, each as its next attempt."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the experiment")
        which = parser.add_mutually_exclusive_group(required=True)
        for choice in Which:
            which.add_argument(
                f"--{choice}", dest="which", action="store_const", const=choice, help=_HELP[choice]
            )
        parser.add_argument("--dry-run", action="store_true", help="say what would be run again, and why")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment, now = experiment_named(options["name"]), timezone.now()
        asked: dict[str, Any] = {
            "experiment": experiment,
            "which": options["which"],
            "user": None,
            "now": now,
        }
        try:
            if options["dry_run"]:
                found = reruns.wanted(**asked)
            else:
                found = [one.wanted for one in reruns.rerun(**asked)]
        except InvalidDocument as invalid:
            raise CommandError(problems_as_text(invalid)) from invalid
        except (CannotRerun, NotApproved) as refusal:
            raise CommandError(str(refusal)) from refusal
        shown = (
            _as_json(found, options["dry_run"]) if options["json"] else _as_text(found, options["dry_run"])
        )
        self.stdout.write(shown)


def _as_text(found: list[Wanted], is_dry: bool) -> str:
    if not found:
        return "There is nothing to run again."
    runs = f"{len(found)} run{'s' if len(found) > 1 else ''}"
    told = f"{runs} would be queued again." if is_dry else f"{runs} queued again."
    return "\n".join([*(f"{want.name} (attempt {want.attempt}): {want.why}" for want in found), told])


def _as_json(found: list[Wanted], is_dry: bool) -> str:
    runs = [{"name": want.name, "attempt": want.attempt, "why": want.why} for want in found]
    return json.dumps({"dry_run": is_dry, "runs": runs}, indent=2)
