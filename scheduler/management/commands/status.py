import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from experiments.models import Experiment
from experiments.shell import experiment_named
from experiments.states import RunKind
from experiments.summaries import cell_state
from scheduler import pausing
from scheduler.queries import away_notes, waiting_reasons


class Command(BaseCommand):
    help = "Where experiments stand, and why what is queued waits."
    requires_system_checks: list[str] = []  # it is asked every few seconds, and they load every page there is

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = (
            [experiment_named(options["name"])] if options["name"] else list(Experiment.objects.all()[:100])
        )
        waiting = {**waiting_reasons(), **away_notes()}
        told = [_status(experiment, waiting) for experiment in chosen]
        paused = pausing.queue_pause()
        if options["json"]:
            self.stdout.write(json.dumps({"paused": paused or None, "experiments": told}, indent=2))
            return
        if paused:
            self.stdout.write(f"{paused[0].upper()}{paused[1:]}; what runs goes on.")
        for experiment in told:
            self.stdout.write(_text(experiment))


def _status(experiment: Experiment, waiting: Mapping[int, str]) -> dict[str, Any]:
    cells = list(experiment.cells.prefetch_related("runs"))
    runs = sorted((run for cell in cells for run in cell.runs.all()), key=lambda run: run.pk)
    finished = all(run.is_finished for run in runs)
    return {
        "name": experiment.name,
        "state": "DRAFT" if experiment.is_draft else "FINISHED" if finished else "RUNNING",
        "paused": experiment.pause or None,
        "cells": dict(Counter(str(cell_state(cell.runs.all())[0]) for cell in cells)),
        "runs": [
            {
                "id": run.pk,
                "name": run.name,
                "kind": run.kind,
                "state": run.state,
                "reason": run.reason or None,
                "message": run.message or None,
                "waiting_for": waiting.get(run.pk),
            }
            for run in runs
        ],
    }


def _text(experiment: dict[str, Any]) -> str:
    counted = ", ".join(f"{count} {state}" for state, count in experiment["cells"].items())
    paused = f"; {experiment['paused']}" if experiment["paused"] else ""
    lines = [f"{experiment['name']}: {experiment['state']} ({counted}){paused}"]
    for run in experiment["runs"]:
        told = run["waiting_for"] or run["message"] or ""
        name = f"{run['name']} (simulated)" if run["kind"] == RunKind.SIMULATED else run["name"]
        lines.append(
            f"  {run['id']:>6}  {run['state']:<10} {run['reason'] or '':<18} {name}  {told}".rstrip()
        )
    return "\n".join(lines)
