"""Finding what of an experiment is to be run again, in its folders and in what it was planned from, and queueing that."""

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import AbstractUser

from experiments import rerunning
from experiments.access import require_approved, require_control
from experiments.models import Experiment, Run
from experiments.rerunning import Anew, Rerun, RunRootAway, Wanted, Which
from experiments.states import RunKind, RunState
from scheduler import joining
from scheduler.paths import JobPaths
from scheduler.programs import PROGRAMS
from scheduler.programs.base import CarriedRun
from scheduler.programs.changes import Present, changes

log = logging.getLogger(__name__)


def wanted(*, experiment: Experiment, which: Which, user: AbstractUser | None, now: datetime) -> list[Wanted]:
    """What would be run again; nothing is changed, and nothing is locked while files are read.

    Raises NotApproved, PermissionDenied, RunRootAway, and InvalidDocument where the document cannot be planned any more.
    """
    require_control(experiment, user)
    require_approved(experiment)
    if which is Which.FAILED:
        return rerunning.failed(experiment=experiment)
    if not joining.is_run_root_there():
        raise RunRootAway(f"The run root {settings.RUN_ROOT} is not there; mount it, and try again.")
    if which is Which.MISSING:
        return list(_missing(experiment))
    anew = rerunning.laid_out_anew(experiment=experiment, user=user, now=now)
    return rerunning.with_dependents(_changed(experiment, anew), experiment=experiment, anew=anew)


def rerun(*, experiment: Experiment, which: Which, user: AbstractUser | None, now: datetime) -> list[Rerun]:
    """Queue it. Raises what `wanted` and `rerunning.rerun` raise."""
    found = wanted(experiment=experiment, which=which, user=user, now=now)
    return rerunning.rerun(experiment=experiment, wanted=found, which=which, user=user, now=now)


def _missing(experiment: Experiment) -> Iterator[Wanted]:
    succeeded = Run.objects.filter(cell__experiment=experiment, state=RunState.SUCCEEDED)
    for run in succeeded.order_by("pk"):
        if lack := _lack(run):
            yield rerunning.want(run, lack)


def _lack(run: Run) -> str:
    """What it left may be anything; what of it cannot be read counts as missing, and the other runs are looked at."""
    directory = Path(run.directory)
    paths = JobPaths(directory, directory / "control")
    try:
        carried = CarriedRun(run_id=run.pk, name=run.name, spec=run.parsed_spec)
        return PROGRAMS[RunKind(run.kind)].lack(carried, paths)
    except Exception as error:
        log.exception("what run %s left could not be read", run.pk)
        return f"what it left could not be read: {error!r}."


def _changed(experiment: Experiment, anew: dict[int, Anew]) -> Iterator[Wanted]:
    """Of the runs that ran to an end of their own."""
    present = Present(Path(settings.ML_PYTHON))
    ran = Run.objects.filter(cell__experiment=experiment, state__in=(RunState.SUCCEEDED, RunState.FAILED))
    for run in ran.order_by("pk"):
        told = list(anew[run.pk].differences) if run.pk in anew else []
        if run.directory:
            told += changes(spec=run.parsed_spec, directory=Path(run.directory), present=present)
        if told:
            yield rerunning.want(run, "; ".join(told), anew.get(run.pk))
