import getpass
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import prior
from experiments.documents import InvalidDocument
from experiments.prior import Harvested
from experiments.shell import settings_from
from scheduler.slurm import takeback
from scheduler.slurm.takeback import TakenBack

MOST_SHOWN = 20


class Command(BaseCommand):
    help = "Read what earlier runs took from their logs, and take the results of batch scripts back."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", nargs="+", type=Path, help="a log, or a folder that holds some")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="what the logs do not say: device='A100 80GB', packed=false, dataset=NAME ...",
        )
        parser.add_argument(
            "--by", default="", metavar="NAME", help="who says so; else who runs this command"
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        now, by = timezone.now(), options["by"] or getpass.getuser()
        paths: list[Path] = options["path"]
        trees = [path.resolve() for path in paths if path.is_dir()]
        try:
            harvested = prior.harvest_paths(
                paths=paths,
                said=settings_from(options["set"]),
                by=by,
                now=now,
                leave_out={folder for tree in trees for folder in takeback.folders(path=tree)},
            )
        except InvalidDocument as invalid:
            raise CommandError("\n".join(str(problem) for problem in invalid.problems)) from invalid
        taken = [run for tree in trees for run in takeback.take_back(path=tree, now=now)]
        self.stdout.write(_as_json(harvested, taken) if options["json"] else _as_text(harvested, taken))
        if not harvested.found_anything and not taken:
            raise CommandError("Nothing that torchtune or a batch script wrote was found there.")


def _as_text(harvested: Harvested, taken: list[TakenBack]) -> str:
    lines = [
        f"{harvested.new} new observations, {harvested.known} known before, {harvested.completed} completed, "
        f"{len(harvested.incomplete)} incomplete."
    ]
    lines += [f"  {row.pk}: {row.incomplete_because}" for row in harvested.incomplete[:MOST_SHOWN]]
    if len(harvested.incomplete) > MOST_SHOWN:
        lines.append(f"  and {len(harvested.incomplete) - MOST_SHOWN} more")
    lines += [f"  {problem}" for problem in harvested.problems]
    return "\n".join([*lines, *(f"{run.run_name}: {run.message}" for run in taken)])


def _as_json(harvested: Harvested, taken: list[TakenBack]) -> str:
    told = {
        "new": harvested.new,
        "known": harvested.known,
        "completed": harvested.completed,
        "incomplete": [{"id": row.pk, "because": row.incomplete_because} for row in harvested.incomplete],
        "problems": harvested.problems,
        "runs": [{"name": run.run_name, "message": run.message} for run in taken],
    }
    return json.dumps(told, indent=2)
