"""What the document of an experiment lays out now, beside what its runs did."""

from collections.abc import Iterator
from datetime import datetime

from django.contrib.auth.models import AbstractUser

from experiments import planning
from experiments.models import Experiment, Run
from experiments.planning import Plan
from experiments.rerunning.differences import differences
from experiments.rerunning.wanted import Anew
from experiments.specs import spec_to_json


def laid_out_anew(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> dict[int, Anew]:
    """Of the runs that would do something else if the same document were planned now: run id -> what.

    Probes have no document of their own that could be planned. Raises InvalidDocument where the document cannot be
    planned any more, and PermissionDenied for programs of one's own.
    """
    if experiment.probes_of_id is not None:
        return {}
    plan = planning.plan(data=experiment.document, user=user, now=now)
    runs = Run.objects.filter(cell__experiment=experiment).select_related("cell")
    known = {(run.cell.name, run.name): run for run in runs}
    return {known[key].pk: anew for key, anew in _planned(plan, known) if anew.differences}


def _planned(plan: Plan, known: dict[tuple[str, str], Run]) -> Iterator[tuple[tuple[str, str], Anew]]:
    for cell, estimate, row in zip(plan.cells, plan.estimates, plan.rows, strict=True):
        for run, of_run in zip(cell.runs, estimate.runs, strict=True):
            before = known.get((cell.name, run.name))
            if before is not None:
                told = differences(spec_to_json(before.parsed_spec), spec_to_json(run.spec))
                yield (cell.name, run.name), Anew(run=run, estimate=of_run, cell_row=row, differences=told)
