"""What runs have taught since the last time: estimates are compared, calibrations fitted, drafts estimated anew."""

import logging
from datetime import datetime

from django.db.models import Exists, Max, OuterRef

from experiments import calibration, planning
from experiments.conditions import Metric
from experiments.documents import InvalidDocument
from experiments.estimation import SECONDS
from experiments.models import Calibration, Estimate, Experiment, Observation, PlanEntry, Run
from experiments.states import RunState

log = logging.getLogger(__name__)

MOST_COMPARED = 500
BECAUSE = "Estimated anew: there is new evidence."


def learn(*, now: datetime) -> None:
    """Everything that is due. It may be called as often as one likes."""
    compare_finished(now=now)
    newest = Observation.objects.aggregate(at=Max("changed_at"))["at"]
    if newest is None:
        return
    fitted = Calibration.objects.aggregate(at=Max("fitted_at"))["at"]
    if fitted is None or fitted < newest:
        calibration.refit(now=now)
    drafts = Experiment.objects.filter(approved_at=None, probes_of=None, estimated_at__lt=newest)
    for pk in list(drafts.values_list("pk", flat=True)):
        refresh(experiment=Experiment.objects.get(pk=pk), now=now)


def compare_finished(*, now: datetime) -> int:
    """Say of finished runs what their estimates missed by; returns how many were compared."""
    measured = Observation.objects.filter(
        run=OuterRef("pk"), metric=Metric.JOB_SECONDS, is_complete=True, is_bound=False
    )
    left = Estimate.objects.filter(run=OuterRef("pk"), metric=SECONDS, compared_at=None, value__isnull=False)
    succeeded = Run.every.filter(state=RunState.SUCCEEDED, harvested_at__isnull=False)
    runs = succeeded.filter(Exists(measured), Exists(left))[:MOST_COMPARED]
    for run in runs:
        calibration.compare(run=run, now=now)
    return len(runs)


def refresh(*, experiment: Experiment, now: datetime) -> None:
    """Estimate a draft anew. What is wrong with it by now is said on it; it stays as it was."""
    Experiment.objects.filter(pk=experiment.pk).update(estimated_at=now)
    try:
        plan = planning.plan(data=experiment.document, user=None, now=now)
        planning.store(plan=plan, user=None, now=now, because=BECAUSE, made_from=experiment.document)
    except InvalidDocument as invalid:
        text = f"It cannot be planned any more: {invalid}"
        planning.record(experiment=experiment, kind=PlanEntry.Kind.FOUND, text=text, user=None, now=now)
    except (planning.NameTaken, planning.Outdated):
        log.info("experiment %s was approved or planned anew meanwhile", experiment.name)
