"""What people do to experiments and runs, with the permissions that admin and API share.

`user` is None at the machine's own shell, whose operator may do everything.
"""

from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction

from experiments import catalogue, lifecycle
from experiments.models import Dataset, Experiment, Run

OPERATOR = "the operator"


class NotFinished(Exception):
    """The experiment still has runs that have not ended."""


def approve(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> int:
    """Make the datasets that are missing and queue all runs; returns how many. Raises NotADraft, PermissionDenied."""
    if user is not None and not user.has_perm("experiments.approve_plan"):
        raise PermissionDenied("Approving a plan needs the permission experiments.approve_plan.")
    if experiment.is_draft:
        for dataset in Dataset.objects.filter(cells__experiment=experiment).distinct():
            catalogue.make_missing(dataset)
    return lifecycle.approve(experiment=experiment, user=user, now=now)


def cancel_experiment(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> None:
    """Cancel every run of it that has not ended; running ones end within their grace period."""
    _require_control(experiment, user)
    runs = Run.objects.filter(cell__experiment=experiment).unfinished()
    lifecycle.request_cancel(runs=runs, by=_named(user), now=now)


def cancel_run(*, run: Run, user: AbstractUser | None, now: datetime) -> None:
    _require_control(run.cell.experiment, user)
    lifecycle.request_cancel(runs=[run], by=_named(user), now=now)


@transaction.atomic
def forget(*, experiment: Experiment) -> None:
    """Delete an experiment and its runs; what was observed stays. Raises NotFinished."""
    runs = Run.objects.filter(cell__experiment=experiment)
    if not experiment.is_draft and runs.unfinished().exists():
        raise NotFinished(
            f"Experiment {experiment.name!r} still has runs that have not ended; cancel it first."
        )
    experiment.delete()


def _require_control(experiment: Experiment, user: AbstractUser | None) -> None:
    if user is None or experiment.created_by_id == user.pk or user.has_perm("experiments.control_any_run"):
        return
    raise PermissionDenied(
        f"{experiment.name!r} belongs to somebody else; experiments.control_any_run is needed."
    )


def _named(user: AbstractUser | None) -> str:
    return user.get_username() if user else OPERATOR
