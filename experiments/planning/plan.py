"""Making a plan: a document is checked against what is on disk, laid out as cells, and estimated."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser

from experiments import calibration, documents, fleet, layout, questions
from experiments.access import require_commands, require_own_recipes
from experiments.documents import ExperimentDocument, InvalidDocument, Problem
from experiments.layout import PlannedCell
from experiments.models import PlanEntry
from experiments.planning import checks, estimates, log, proposals, rows
from experiments.planning.estimates import CellEstimate, Surroundings
from experiments.planning.found import Found, look_up
from experiments.planning.proposals import Proposed
from experiments.questions import Question

MAX_CELLS = 10_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked document with its cells and what they would take: what a person approves."""

    document: ExperimentDocument
    source: Mapping[str, Any]
    found: Found
    cells: tuple[PlannedCell, ...]
    estimates: tuple[CellEstimate, ...]
    rows: tuple[Mapping[str, Any], ...]
    totals: Mapping[str, Any]
    proposals: tuple[Proposed, ...]
    questions: tuple[Question, ...]
    warnings: tuple[str, ...]
    entries: tuple[tuple[PlanEntry.Kind, str], ...]

    def to_json(self) -> dict[str, Any]:
        return rows.plan_json(
            name=self.document.name,
            rows=self.rows,
            totals=self.totals,
            proposals=[proposal.to_json() for proposal in self.proposals],
            questions=[question.to_json() for question in self.questions],
            warnings=self.warnings,
        )


def plan(*, data: Mapping[str, Any], user: AbstractUser | None, now: datetime) -> Plan:
    """Check, lay out and estimate a document; nothing of it is stored. `user` is None at the machine's own shell.

    Raises InvalidDocument with every problem found, and PermissionDenied for programs of one's own without the
    permission that they need.
    """
    document = documents.parse(data)
    _require_permissions(document, user)
    _refuse_too_many(document)
    schedule = fleet.schedule()
    found = look_up(document, now=now)
    cells = tuple(layout.lay_out(document, found.material()))
    around = Surroundings(fleet=schedule.fleet(), configs=found.configs, evidence=calibration.evidence())
    checks.refuse_what_cannot_run(cells, around)
    estimated = estimates.with_turns(
        cells,
        estimates.of_cells(cells, around),
        schedule=schedule,
        priority=document.priority,
        max_parallel=document.window,
        now=now,
    )
    checks.refuse_what_does_not_fit_on_disk(cells, estimated)
    asked = tuple(questions.questions(document, split_rows=found.split_rows, defaults=found.defaults))
    proposed = proposals.propose(document, cells, estimated, around=around, workloads=found.workloads)
    warnings = tuple(log.warnings(document, cells, estimated, found, around))
    return Plan(
        document=document,
        source=dict(data),
        found=found,
        cells=cells,
        estimates=tuple(estimated),
        rows=tuple(rows.cell_row(cell, one) for cell, one in zip(cells, estimated, strict=True)),
        totals=rows.totals(cells, estimated),
        proposals=tuple(proposed),
        questions=asked,
        warnings=warnings,
        entries=tuple(log.entries(cells, estimated, found, asked)),
    )


def _require_permissions(document: ExperimentDocument, user: AbstractUser | None) -> None:
    if document.command is not None:
        require_commands(user)
    if documents.own_recipes(document):
        require_own_recipes(user)


def _refuse_too_many(document: ExperimentDocument) -> None:
    count = math.prod(len(levels) for levels in document.factors.values())
    count = count * max(1, len(document.seeds)) + len(document.cells)
    if count > MAX_CELLS:
        message = f"{count} cells are more than {MAX_CELLS}."
        raise InvalidDocument([Problem("factors", message, "Split the experiment.")])
