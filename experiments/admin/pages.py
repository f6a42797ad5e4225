"""What the pages of an experiment show: facts, the plan with its states, the summary with its charts."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import yaml
from django.contrib.auth.models import AbstractUser
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet

from experiments import planning, queries, summaries
from experiments.admin import charts, figures
from experiments.admin.forms import answer_field
from experiments.models import Cell, Experiment, Proposal, Run
from experiments.states import RunKind

CELLS_PER_PAGE = 100
MAX_CURVES = 24
LOG_ENTRIES = 100  # the newest; the export has all


def may_control(user: AbstractUser, experiment: Experiment) -> bool:
    """Whether to offer the button; `experiments.control` decides."""
    return experiment.created_by_id == user.pk or user.has_perm("experiments.control_any_run")


def document_text(experiment: Experiment) -> str:
    text: str = yaml.safe_dump(
        experiment.document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=60
    )
    return text


def plan_table(experiment: Experiment, page_number: str | None) -> dict[str, Any]:
    """One row a cell, a hundred a page; of a plan of thousands, only those of the page are read."""
    page: Page[Any] = Paginator(experiment.cells.all(), CELLS_PER_PAGE).get_page(page_number)
    cells = cast("QuerySet[Cell]", page.object_list)
    planned = {cell.name: cell for cell in cells}
    summary = summaries.summarise(experiment, cells=cells)
    runs_of = {row.name: row.run_ids for row in summary.rows}
    measured = {} if experiment.is_draft else queries.measured(runs_of)
    runs = _runs_of(summary.rows)
    return {
        "scorers": summary.scorers,
        "page": page,
        "poll_seconds": 3 if page.paginator.count <= CELLS_PER_PAGE else 15,
        "rows": [
            {
                "cell": row,
                "levels": _without_model(row.levels),
                "plan": planned[row.name].planned,
                "figures": figures.of_row(
                    experiment,
                    planned[row.name].index,
                    planned[row.name].planned,
                    measured.get(row.name, {}),
                ),
                "runs": [runs[pk] for pk in row.run_ids],
            }
            for row in summary.rows
        ],
    }


def beside_the_plan(experiment: Experiment) -> dict[str, Any]:
    """What belongs to a plan apart from its table."""
    entries, proposals = experiment.log.order_by("-id"), experiment.proposals.all()
    if not experiment.is_draft:
        proposals = proposals.exclude(state=Proposal.State.OPEN)
    return {
        "totals": figures.of_totals(experiment),
        "proposals": list(proposals),
        "questions": [
            {**question, "field": answer_field(question["key"]), "suggested": _typed(question["suggestion"])}
            for question in experiment.questions
        ],
        "notes": planning.notes(experiment),
        "entries": list(entries[:LOG_ENTRIES]),
        "entries_total": entries.count(),
        "probes": list(experiment.probes.all()),
    }


def _typed(suggestion: Any) -> str:
    """A suggested answer as a person would type it."""
    return "" if suggestion is None else json.dumps(suggestion)


def summary_page(experiment: Experiment, page_number: str | None) -> dict[str, Any]:
    summary = summaries.summarise(experiment)
    page: Page[Any] = Paginator(summary.rows, CELLS_PER_PAGE).get_page(page_number)
    runs = _runs_of(page.object_list)
    factors = list(dict.fromkeys(factor for row in summary.rows for factor in row.levels))
    return {
        "factors": factors,
        "scorers": summary.scorers,
        "page": page,
        "rows": [{"cell": row, "runs": [runs[pk] for pk in row.run_ids]} for row in page.object_list],
        "bars": [(metric, charts.bars(summary, metric)) for metric in summary.scorers],
        **_loss_curves(experiment),
    }


def _without_model(levels: Mapping[str, Any]) -> dict[str, Any]:
    """The model has a column of its own."""
    return {factor: level for factor, level in levels.items() if factor != "model"}


def _loss_curves(experiment: Experiment) -> dict[str, Any]:
    finetunes = Run.objects.of_experiment(experiment.name).filter(kind=RunKind.FINETUNE).order_by("id")
    found = {run.name: queries.loss_curve(run) for run in finetunes.select_related("cell")[:MAX_CURVES]}
    drawn = {name: curve for name, curve in found.items() if curve}
    return {
        "curves": charts.curves(drawn) if drawn else "",
        "curves_drawn": len(drawn),
        "finetunes": finetunes.count(),
    }


def _runs_of(rows: Iterable[summaries.Row]) -> dict[int, Run]:
    ids = [pk for row in rows for pk in row.run_ids]
    return Run.objects.only("pk", "kind", "name", "state").in_bulk(ids)
