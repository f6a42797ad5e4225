import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control, documents, planning
from experiments.control import Unanswered
from experiments.documents import InvalidDocument, Problem
from experiments.lifecycle import NotADraft
from experiments.models import Experiment
from experiments.planning import NameTaken, Outdated
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
        now = timezone.now()
        try:
            plan = planning.plan(data=documents.load(_text(options["file"])), user=None, now=now)
            experiment = planning.store(plan=plan, user=None, now=now)
        except InvalidDocument as invalid:
            raise self._refused(invalid, options["json"]) from invalid
        except NameTaken as taken:
            problem = Problem("name", str(taken), "")
            raise self._refused(InvalidDocument([problem]), options["json"]) from taken
        shown = plan.to_json()
        self.stdout.write(json.dumps(shown, indent=2) if options["json"] else plan_as_text(shown))
        if options["sbatch"]:
            self._say(_exported(experiment, options["sbatch"]), options["json"])
        if options["approve"]:
            self._approve(experiment, options["json"])
        else:
            self._say(f"A draft. To queue it: approve {experiment.name}", options["json"])

    def _approve(self, experiment: Experiment, as_json: bool) -> None:
        suggested = {q["key"]: q["suggestion"] for q in experiment.questions if q["suggestion"] is not None}
        try:
            count = control.approve(experiment=experiment, user=None, now=timezone.now(), answers=suggested)
        except (NotADraft, Outdated, Unanswered) as error:
            raise CommandError(str(error)) from error
        except InvalidDocument as invalid:
            raise CommandError(problems_as_text(invalid)) from invalid
        for key, value in suggested.items():
            self._say(f"{key} was not said; approved with {key}={json.dumps(value)}.", as_json)
        self._say(f"Approved; {count} runs are queued.", as_json)

    def _refused(self, invalid: InvalidDocument, as_json: bool) -> CommandError:
        if as_json:
            self.stdout.write(json.dumps(planning.refused_json(invalid), indent=2))
        return CommandError(problems_as_text(invalid), returncode=1)

    def _say(self, text: str, as_json: bool) -> None:
        (self.stderr if as_json else self.stdout).write(text)


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
