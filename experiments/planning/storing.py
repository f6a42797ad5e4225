"""Keeping a plan as a draft, in place of an earlier draft of the same name, whose decisions stay."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import transaction

from experiments import catalogue, layout
from experiments.access import may_control, named
from experiments.layout import PlannedCell, PlannedRun
from experiments.models import BaseModel, Cell, Dataset, Estimate, Experiment, PlanEntry, Proposal, Run
from experiments.planning import log
from experiments.planning.estimates import CellEstimate, RunEstimate
from experiments.planning.found import Found
from experiments.planning.plan import Plan
from experiments.planning.proposals import Proposed
from experiments.planning.rows import cell_row, plan_json, totals
from experiments.specs import spec_to_json
from experiments.states import RunState

BATCH = 500
FIRST_AUTOMATIC_WINDOW = 1


class Outdated(Exception):
    """The draft that a plan was worked out from was planned anew meanwhile."""


class NameTaken(Exception):
    """An approved experiment has this name already, or somebody else's draft."""


@transaction.atomic
def store(
    *,
    plan: Plan,
    user: AbstractUser | None,
    now: datetime,
    because: str = "",
    made_from: Mapping[str, Any] | None = None,
) -> Experiment:
    """Keep the plan as a draft, in place of an earlier draft of one's own. Raises NameTaken.

    `made_from` is the document of the draft that the plan was worked out from; if it is another by now, somebody was
    quicker, and Outdated is raised.
    """
    experiment, is_new = _draft(plan, user, now, made_from)
    _store_cells(experiment, plan.found, list(zip(plan.cells, plan.estimates, plan.rows, strict=True)), now)
    _store_proposals(experiment, plan.proposals)
    why = because or ("Planned." if is_new else "Planned anew.")
    noted = set(experiment.log.values_list("kind", "text"))
    entries = [
        _entry(experiment, kind, text, None, now) for kind, text in plan.entries if (kind, text) not in noted
    ]
    PlanEntry.objects.bulk_create([_entry(experiment, PlanEntry.Kind.DECIDED, why, user, now), *entries])
    return experiment


def require_storable(*, plan: Plan, user: AbstractUser | None) -> None:
    """Before anything is made for it. Raises NameTaken, as storing it would."""
    existing = Experiment.objects.filter(name=plan.document.name).first()
    if existing is not None:
        _require_replaceable(existing, user)


@transaction.atomic
def store_probes(
    *,
    of: Experiment,
    cells: Sequence[PlannedCell],
    estimates: Sequence[CellEstimate],
    plan: Plan,
    user: AbstractUser | None,
    now: datetime,
) -> Experiment:
    """Keep probe cells as a draft of their own, beside the plan that they are for."""
    name = _free_name(f"{of.name}_probes")
    experiment = Experiment.objects.create(
        name=name,
        question=f"What do the cells of {of.name} take?",
        document={"name": name, "probes_of": of.name, "cells": [cell.name for cell in cells]},
        totals=totals(cells, estimates),
        max_parallel=of.max_parallel,
        max_parallel_is_auto=of.max_parallel_is_auto,
        priority=of.priority,
        probes_of=of,
        created_by_id=user.pk if user else None,
        planned_at=now,
        estimated_at=now,
    )
    shown = [cell_row(cell, one) for cell, one in zip(cells, estimates, strict=True)]
    _store_cells(experiment, plan.found, list(zip(cells, estimates, shown, strict=True)), now)
    record(experiment=experiment, kind=PlanEntry.Kind.DECIDED, text="Planned.", user=user, now=now)
    return experiment


def record(
    *, experiment: Experiment, kind: PlanEntry.Kind, text: str, user: AbstractUser | None, now: datetime
) -> None:
    """One more line of the experiment's log; only what is decided is a person's."""
    _entry(experiment, kind, text, user, now).save()


def estimate_rows(run: Run, estimate: RunEstimate) -> Iterator[Estimate]:
    """What is kept of a run's estimate; nothing is written."""
    for metric, figure in estimate.by_metric().items():
        yield Estimate(
            run=run,
            metric=metric,
            value=figure.value,
            low=figure.low,
            high=figure.high,
            grade=figure.grade,
            n=figure.n,
            observation_ids=list(figure.observations),
            note=figure.note,
        )


def stored_plan_json(experiment: Experiment) -> dict[str, Any]:
    """The plan of a stored experiment, in the shape of Plan.to_json()."""
    proposals = experiment.proposals.all() if experiment.is_draft else experiment.proposals.none()
    return plan_json(
        name=experiment.name,
        rows=list(experiment.cells.values_list("planned", flat=True)),
        totals=experiment.totals,
        proposals=[proposal_json(proposal) for proposal in proposals],
        questions=experiment.questions,
        warnings=notes(experiment),
    )


def notes(experiment: Experiment) -> list[str]:
    """What there is to know of its plan, as far as it still holds."""
    return log.still_true(experiment.notes, window_is_auto=experiment.max_parallel_is_auto)


def exported_plan(experiment: Experiment) -> dict[str, Any]:
    """The plan with its document and its log: what there is to know of how it came about."""
    entries = experiment.log.values_list("at", "kind", "text", "by")
    return {
        **stored_plan_json(experiment),
        "document": experiment.document,
        "log": [
            {"at": at.isoformat(timespec="seconds"), "kind": kind, "text": text, "by": by or None}
            for at, kind, text, by in entries
        ],
    }


def proposal_json(proposal: Proposal) -> dict[str, Any]:
    proposed = Proposed(
        kind=Proposal.Kind(proposal.kind),
        key=proposal.key,
        title=proposal.title,
        reason=proposal.reason,
        changes=proposal.changes,
        cells=tuple(proposal.cells),
        observations=tuple(proposal.observation_ids),
    )
    return proposed.to_json(proposal.state)


def _draft(
    plan: Plan, user: AbstractUser | None, now: datetime, made_from: Mapping[str, Any] | None
) -> tuple[Experiment, bool]:
    document = plan.document
    existing = Experiment.objects.select_for_update().filter(name=document.name).first()
    if existing is not None:
        _require_replaceable(existing, user)
    if made_from is not None and (existing is None or existing.document != made_from):
        raise Outdated(f"Draft {document.name!r} was planned anew meanwhile; look at it again.")
    experiment = existing or Experiment(name=document.name, created_by_id=user.pk if user else None)
    for field, value in _fields(plan, now).items():
        setattr(experiment, field, value)
    experiment.save()
    return experiment, existing is None


def _require_replaceable(experiment: Experiment, user: AbstractUser | None) -> None:
    name = experiment.name
    if not experiment.is_draft:
        raise NameTaken(f"Experiment {name!r} was approved already; plan it under a new name.")
    if not may_control(experiment, user):
        raise NameTaken(f"Experiment {name!r} is a draft of somebody else; plan it under a new name.")
    if Run.objects.filter(cell__experiment=experiment).exclude(state=RunState.PLANNED):
        raise NameTaken(f"Draft {name!r} has results already; plan it under a new name.")


def _free_name(wanted: str) -> str:
    """Probes that ran already keep their name."""
    taken = set(Experiment.objects.filter(name__startswith=wanted).values_list("name", flat=True))
    names = (wanted if number == 1 else f"{wanted}{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def _fields(plan: Plan, now: datetime) -> dict[str, Any]:
    document = plan.document
    return {
        "question": document.question,
        "document": dict(plan.source),
        "notes": list(plan.warnings),
        "questions": [question.to_json() for question in plan.questions],
        "totals": plan.totals,
        "max_parallel": document.window or FIRST_AUTOMATIC_WINDOW,
        "max_parallel_is_auto": document.window is None,
        "priority": document.priority,
        "evaluation_hold_seconds": document.evaluation_hold_seconds,
        "on_node_lost": document.on_node_lost,
        "planned_at": now,
        "estimated_at": now,
    }


def _store_cells(
    experiment: Experiment,
    found: Found,
    cells: Sequence[tuple[PlannedCell, CellEstimate, Mapping[str, Any]]],
    now: datetime,
) -> None:
    experiment.cells.all().delete()
    models = {name: catalogue.record_model(model, now=now) for name, model in found.models.items()}
    datasets = {name: catalogue.record_dataset(data, now=now) for name, data in found.datasets.items()}
    rows = [
        _cell(experiment, index, cell, models, datasets, row) for index, (cell, _, row) in enumerate(cells)
    ]
    stored = Cell.objects.bulk_create(rows, batch_size=BATCH)
    _store_runs(
        experiment,
        [(row, cell, estimate) for row, (cell, estimate, _) in zip(stored, cells, strict=True)],
    )


def _cell(
    experiment: Experiment,
    index: int,
    cell: PlannedCell,
    models: Mapping[str, BaseModel],
    datasets: Mapping[str, Dataset],
    row: Mapping[str, Any],
) -> Cell:
    return Cell(
        experiment=experiment,
        index=index,
        name=cell.name,
        type=cell.type,
        levels=dict(cell.levels),
        base_model=models.get(cell.model or ""),
        dataset=datasets.get(cell.dataset or ""),
        seed=cell.seed,
        planned=dict(row),
    )


def _store_runs(experiment: Experiment, cells: Sequence[tuple[Cell, PlannedCell, CellEstimate]]) -> None:
    """Those that build on nothing first, since the others name them by their ids."""
    stored: dict[tuple[int, str], Run] = {}
    for builds in (False, True):
        wanted = [
            (cell, run)
            for cell, planned, _ in cells
            for run in planned.runs
            if (run.builds_on is not None) is builds
        ]
        runs = [
            _run(cell, run, experiment.priority, stored.get((cell.pk, run.builds_on or "")))
            for cell, run in wanted
        ]
        created = Run.objects.bulk_create(runs, batch_size=BATCH)
        stored |= {(run.cell_id, run.name): run for run in created}
    Estimate.objects.bulk_create(_estimates(cells, stored), batch_size=BATCH)


def _run(cell: Cell, run: PlannedRun, priority: int, builds_on: Run | None) -> Run:
    needs = run.resources
    return Run(
        cell=cell,
        kind=run.kind,
        name=run.name,
        depends_on=builds_on,
        spec=spec_to_json(run.spec),
        engine_key=layout.engine_key(run),
        devices=needs.devices,
        device_memory_mib=needs.device_memory_mib,
        host_memory_mib=needs.host_memory_mib,
        cpu_threads=needs.cpu_threads,
        pool=needs.pool,
        limit_seconds=needs.limit_seconds,
        priority=priority,
    )


def _estimates(
    cells: Sequence[tuple[Cell, PlannedCell, CellEstimate]], stored: Mapping[tuple[int, str], Run]
) -> Iterable[Estimate]:
    for cell, planned, estimate in cells:
        for run, of_run in zip(planned.runs, estimate.runs, strict=True):
            yield from estimate_rows(stored[cell.pk, run.name], of_run)


def _store_proposals(experiment: Experiment, proposals: Iterable[Proposed]) -> None:
    """What was decided about the same change stays decided; what is open and proposed again keeps its id."""
    before = {row.key: row for row in experiment.proposals.all()}
    for proposed in proposals:
        row = before.pop(proposed.key, None)
        if row is not None and _is_about_the_same(row, proposed):
            still_open = experiment.proposals.filter(pk=row.pk, state=Proposal.State.OPEN)
            still_open.update(**_columns(proposed))
            continue
        if row is not None:
            row.delete()
        Proposal.objects.create(experiment=experiment, key=proposed.key, **_columns(proposed))
    left = [row.pk for row in before.values() if row.state == Proposal.State.OPEN]
    experiment.proposals.filter(pk__in=left).delete()


def _is_about_the_same(row: Proposal, proposed: Proposed) -> bool:
    """An open one is what a person saw, so its cells count, too."""
    if proposed.kind == Proposal.Kind.PROBE:
        return row.cells == list(proposed.cells) and not _has_probed(row)
    is_same_change = row.changes == dict(proposed.changes)
    return is_same_change and (row.state != Proposal.State.OPEN or row.cells == list(proposed.cells))


def _has_probed(row: Proposal) -> bool:
    """Whether its probes have ended, and evidence is missing all the same: then it is to be decided again."""
    if row.state != Proposal.State.ACCEPTED:
        return False
    probes = Run.objects.filter(cell__experiment__probes_of=row.experiment_id)
    return not probes.unfinished().exists()


def _columns(proposed: Proposed) -> dict[str, Any]:
    return {
        "kind": proposed.kind,
        "title": proposed.title,
        "reason": proposed.reason,
        "changes": dict(proposed.changes),
        "cells": list(proposed.cells),
        "observation_ids": list(proposed.observations),
    }


def _entry(
    experiment: Experiment, kind: PlanEntry.Kind, text: str, user: AbstractUser | None, now: datetime
) -> PlanEntry:
    by = named(user) if kind is PlanEntry.Kind.DECIDED else ""  # labmgr itself decides nothing
    return PlanEntry(experiment=experiment, at=now, kind=kind, text=text, by=by)
