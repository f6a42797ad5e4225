import json
import math
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments.shell import experiment_named
from scheduler import what_if
from scheduler.what_if import Prospect


class Command(BaseCommand):
    help = (
        "When the queue, or one experiment, draft or not, would be done: played forward with the same place() that "
        "decides in earnest. Runs without an estimate count with their limits; what is paused is left out."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="an experiment; without it, all that is queued")
        parser.add_argument(
            "--devices", metavar="8x80GiB", help="as if the lab had one node with these instead"
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = experiment_named(options["name"]) if options["name"] else None
        now = timezone.now()
        try:
            prospects = what_if.prospects(experiment=experiment, devices=options["devices"], now=now)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            told = [_json(prospect, now) for prospect in prospects]
            self.stdout.write(json.dumps({"devices": options["devices"], "experiments": told}, indent=2))
            return
        for prospect in prospects:
            self.stdout.write(_text(prospect, now))
        if not prospects:
            self.stdout.write("Nothing is queued.")
        if options["devices"]:
            self.stdout.write(
                f"As if one node with {options['devices']} were free now; estimates are those of the lab's own devices."
            )


def _json(prospect: Prospect, now: datetime) -> dict[str, Any]:
    return {
        "experiment": prospect.experiment,
        "runs": prospect.runs,
        "without_estimate": prospect.without_estimate,
        "never": prospect.never,
        "window_is_auto": prospect.window_is_auto,
        "paused": prospect.paused or None,
        "start_at": _at(prospect.start_seconds, now),
        "end_at": _at(prospect.end_seconds, now),
    }


def _at(seconds: float | None, now: datetime) -> str | None:
    if seconds is None or math.isinf(seconds):
        return None
    return (now + timedelta(seconds=seconds)).isoformat()


def _text(prospect: Prospect, now: datetime) -> str:
    runs = f"{prospect.experiment}: {prospect.runs} run{'s' if prospect.runs != 1 else ''}"
    if prospect.paused:
        return f"{runs}: left out, since {prospect.paused}"
    never = f"; {prospect.never} would never start, since no node holds them" if prospect.never else ""
    if prospect.start_seconds is None or prospect.end_seconds is None:
        return f"{runs}{never}"
    start, end = (
        timezone.localtime(now + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M")
        for seconds in (prospect.start_seconds, prospect.end_seconds)
    )
    latest = f" at the latest: {prospect.without_estimate} without an estimate count with their limits"
    auto = "; as if its automatic window had grown already" if prospect.window_is_auto else ""
    return f"{runs}, {start} to {end}{latest if prospect.without_estimate else ''}{never}{auto}"
