import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control, documents, planning
from experiments.control import Approved, Unanswered
from experiments.documents import InvalidDocument, Problem
from experiments.models import Experiment
from experiments.planning import NameTaken, Plan
from experiments.planning.text import plan_as_text
from experiments.shell import problems_as_text
from scheduler.slurm import export
from scheduler.slurm.scripts import SUBMIT


class Command(BaseCommand):
    help = "Plan an experiment file: check it, lay out its cells, estimate them, and keep it as a draft."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="print the plan as JSON")
        parser.add_argument(
            "--approve",
            action="store_true",
            help="approve and queue it at once, with the answers it suggests",
        )
        parser.add_argument(
            "--sbatch", type=Path, metavar="DIR", help="also write one Slurm batch script a run there"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        now, approved = timezone.now(), None
        try:
            plan = planning.plan(data=documents.load(_text(options["file"])), user=None, now=now)
            if options["approve"]:
                approved = control.approve_at_once(plan=plan, user=None, now=now)
            experiment = approved.experiment if approved else planning.store(plan=plan, user=None, now=now)
        except Unanswered as left:
            self._show(plan, options["json"])
            raise CommandError(str(left)) from left
        except InvalidDocument as invalid:
            raise self._refused(invalid, options["json"]) from invalid
        except NameTaken as taken:
            problem = Problem("name", str(taken), "")
            raise self._refused(InvalidDocument([problem]), options["json"]) from taken
        self._show(plan, options["json"])
        for sentence in _decided(experiment, approved):
            self._say(sentence, options["json"])
        if options["sbatch"]:
            self._say(_exported(experiment, options["sbatch"]), options["json"])

    def _show(self, plan: Plan, as_json: bool) -> None:
        shown = plan.to_json()
        self.stdout.write(json.dumps(shown, indent=2) if as_json else plan_as_text(shown))

    def _refused(self, invalid: InvalidDocument, as_json: bool) -> CommandError:
        if as_json:
            self.stdout.write(json.dumps(planning.refused_json(invalid), indent=2))
        return CommandError(problems_as_text(invalid), returncode=1)

    def _say(self, text: str, as_json: bool) -> None:
        (self.stderr if as_json else self.stdout).write(text)


def _decided(experiment: Experiment, approved: Approved | None) -> Iterator[str]:
    if approved is None:
        yield f"A draft. To queue it: approve {experiment.name}"
        return
    for key, value in approved.answers.items():
        yield f"{key} was not said; approved with {key}={json.dumps(value)}."
    yield f"Approved; {approved.queued} runs are queued."


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}. Give the path of an experiment file.") from error


def _exported(experiment: Experiment, folder: Path) -> str:
    try:
        written = export.write(experiment=experiment, folder=folder)
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error}. Name another folder.") from error
    return f"{len(written)} files are in {folder}. To submit all runs: {folder}/{SUBMIT}"
