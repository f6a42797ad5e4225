"""The next attempts of runs: fresh rows in place of those that ended, queued in one transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import F

from experiments import layout, lifecycle, planning
from experiments.access import named, require_approved, require_control, require_own_programs
from experiments.models import Cell, Estimate, Experiment, PlanEntry, Run, RunEvent
from experiments.rerunning.refusals import RunAgainAlready
from experiments.rerunning.wanted import Wanted, Which
from experiments.specs import RunSpec, spec_to_json
from experiments.states import TERMINAL, RunState

BATCH = 500

_Key = tuple[int, str]  # a run, whichever attempt: its cell and its name
_TOLD = {
    Which.FAILED: "that did not succeed",
    Which.MISSING: "whose results are missing",
    Which.CHANGED: "whose inputs have changed",
}


@dataclass(frozen=True, kw_only=True)
class Rerun:
    wanted: Wanted
    run_id: int  # of its next attempt


def rerun(
    *,
    experiment: Experiment,
    wanted: Sequence[Wanted],
    which: Which,
    user: AbstractUser | None,
    now: datetime,
) -> list[Rerun]:
    """Queue the next attempt of each, where nobody has done so meanwhile; returns those that were queued.

    What builds on a run that did not succeed and is not run again stays as it is. Raises NotApproved, RunAgainAlready,
    and PermissionDenied, also for programs of one's own.
    """
    require_control(experiment, user)
    if any(want.changes_spec for want in wanted) and not _may_approve(user):
        raise PermissionDenied(
            "Some of these runs would do something else than was approved: experiments.approve_plan is needed."
        )
    try:
        with transaction.atomic():
            return _rerun(experiment, wanted, which, user, now)
    except IntegrityError as error:
        raise RunAgainAlready(
            f"Runs of {experiment.name!r} were run again by somebody else just now; look at it again."
        ) from error


def _may_approve(user: AbstractUser | None) -> bool:
    return user is None or user.has_perm("experiments.approve_plan")


def _rerun(
    experiment: Experiment,
    wanted: Sequence[Wanted],
    which: Which,
    user: AbstractUser | None,
    now: datetime,
) -> list[Rerun]:
    require_approved(Experiment.objects.select_for_update().get(pk=experiment.pk))
    current = _locked(wanted)
    asked = {want.run_id: want for want in wanted}
    ended = {key: asked[run.pk] for key, run in current.items() if run.pk in asked and run.state in TERMINAL}
    require_own_programs((_spec(current[key], want) for key, want in ended.items()), user)
    fresh = _create(ended, current)
    if not fresh:
        return []
    reruns = [Rerun(wanted=ended[key], run_id=run.pk) for key, run in fresh.items()]
    _estimate(reruns)
    lifecycle.supersede(run_ids=[one.wanted.run_id for one in reruns])
    _record(experiment, reruns, which, user, now)
    lifecycle.queue(run_ids=[one.run_id for one in reruns], now=now)
    return reruns


def _locked(wanted: Iterable[Wanted]) -> dict[_Key, Run]:
    """The last attempts of all runs of these cells: what is run again, and what that builds on, which may end just now.

    What builds on nothing comes first, as where a run ends and tells what builds on it. Ids tell nothing of that: the
    next attempt of a fine-tune may be younger than the evaluation that waits for it.
    """
    cells = Run.every.filter(pk__in=[want.run_id for want in wanted]).values_list("cell", flat=True)
    runs = Run.objects.filter(cell__in=set(cells)).select_related("depends_on")
    in_order = runs.order_by(F("depends_on_id").asc(nulls_first=True), "pk")
    return {(run.cell_id, run.name): run for run in in_order.select_for_update(of=("self",))}


def _create(wanted: Mapping[_Key, Wanted], current: Mapping[_Key, Run]) -> dict[_Key, Run]:
    """What others build on first, since those name it by its id."""
    fresh: dict[_Key, Run] = {}
    for level in _levels([current[key] for key in wanted]):
        rows = {}
        for run in level:
            key, before = _key(run), run.depends_on
            builds_on = (fresh.get(_key(before)) or current[_key(before)]) if before else None
            if builds_on is None or _may_succeed(builds_on):
                rows[key] = _next(run, wanted[key], builds_on)
        Run.objects.bulk_create(rows.values(), batch_size=BATCH)
        fresh |= rows
    return fresh


def _levels(runs: Sequence[Run]) -> Iterator[list[Run]]:
    left = {_key(run): run for run in runs}
    while left:
        level = [run for run in left.values() if run.depends_on is None or _key(run.depends_on) not in left]
        yield level
        for run in level:
            del left[_key(run)]


def _key(run: Run) -> _Key:
    return run.cell_id, run.name


def _may_succeed(run: Run) -> bool:
    return run.state == RunState.SUCCEEDED or run.state not in TERMINAL


def _spec(run: Run, wanted: Wanted) -> RunSpec:
    return wanted.anew.run.spec if wanted.anew else run.parsed_spec


def _next(run: Run, wanted: Wanted, builds_on: Run | None) -> Run:
    planned = wanted.anew.run if wanted.anew else None
    needs = planned.resources if planned else run.resources
    return Run(
        cell_id=run.cell_id,
        kind=run.kind,
        name=run.name,
        attempt=wanted.attempt,
        depends_on=builds_on,
        spec=spec_to_json(planned.spec) if planned else run.spec,
        engine_key=layout.engine_key(planned) if planned else run.engine_key,
        devices=needs.devices,
        device_memory_mib=needs.device_memory_mib,
        host_memory_mib=needs.host_memory_mib,
        cpu_threads=needs.cpu_threads,
        pool=needs.pool,
        limit_seconds=needs.limit_seconds,
        priority=run.priority,
    )


def _estimate(reruns: Sequence[Rerun]) -> None:
    """As the run before it was estimated; anew where it does something else, and its cell's row of the plan, too."""
    fresh = Run.objects.in_bulk([one.run_id for one in reruns])
    following = {one.wanted.run_id: fresh[one.run_id] for one in reruns if one.wanted.anew is None}
    rows = [_copied(row, following) for row in Estimate.objects.filter(run__in=following)]
    for one in reruns:
        if one.wanted.anew is not None:
            rows += planning.estimate_rows(fresh[one.run_id], one.wanted.anew.estimate)
            cell = Cell.objects.filter(pk=fresh[one.run_id].cell_id)
            cell.update(planned=dict(one.wanted.anew.cell_row))
    Estimate.objects.bulk_create(rows, batch_size=BATCH)


def _copied(estimate: Estimate, following: Mapping[int, Run]) -> Estimate:
    estimate.run = following[estimate.run_id]
    estimate.pk = estimate.actual = estimate.compared_at = None
    return estimate


def _record(
    experiment: Experiment, reruns: Sequence[Rerun], which: Which, user: AbstractUser | None, now: datetime
) -> None:
    by = named(user)
    RunEvent.objects.bulk_create(
        (
            RunEvent(
                run_id=one.run_id,
                at=now,
                state=RunState.PLANNED,
                message=f"Attempt {one.wanted.attempt}, asked for by {by}: {one.wanted.why}",
            )
            for one in reruns
        ),
        batch_size=BATCH,
    )
    text = f"Run again: {len(reruns)} run{'s' if len(reruns) > 1 else ''} {_TOLD[which]}."
    planning.record(experiment=experiment, kind=PlanEntry.Kind.DECIDED, text=text, user=user, now=now)
