import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments import control, documents, planning
from experiments.documents import InvalidDocument, Problem
from experiments.planning import NameTaken, Plan
from experiments.shell import problems_as_text


class Command(BaseCommand):
    help = "Plan an experiment file: check it, lay out its cells, and keep it as a draft."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="print the plan as JSON")
        parser.add_argument("--approve", action="store_true", help="approve and queue it at once")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        try:
            plan = planning.plan(data=documents.load(_text(options["file"])), user=None)
            experiment = planning.store(plan=plan, user=None, now=now)
        except InvalidDocument as invalid:
            raise self._refused(invalid, options["json"]) from invalid
        except NameTaken as taken:
            problem = Problem("name", str(taken), "")
            raise self._refused(InvalidDocument([problem]), options["json"]) from taken
        self.stdout.write(json.dumps(plan.to_json(), indent=2) if options["json"] else _table(plan))
        if options["approve"]:
            count = control.approve(experiment=experiment, user=None, now=now)
            self._say(f"Approved; {count} runs are queued.", options["json"])
        else:
            self._say(f"A draft. To queue it: approve {experiment.name}", options["json"])

    def _refused(self, invalid: InvalidDocument, as_json: bool) -> CommandError:
        if as_json:
            errors = [vars(problem) for problem in invalid.problems]
            self.stdout.write(json.dumps({"errors": errors}, indent=2))
        return CommandError(problems_as_text(invalid), returncode=1)

    def _say(self, text: str, as_json: bool) -> None:
        (self.stderr if as_json else self.stdout).write(text)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}. Give the path of an experiment file.") from error


def _table(plan: Plan) -> str:
    rows = plan.to_json()["runs"]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'name':<{width}}  type        steps  time         memory"]
    lines += [
        f"{row['name']:<{width}}  {row['type']:<10}  {row['steps'] or '-':>5}  no evidence  no evidence"
        for row in rows
    ]
    return "\n".join([*lines, "", *plan.warnings])
