"""Plans: a document is checked against what is on disk, laid out as cells, and stored as a draft."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction

from experiments import catalogue, documents, layout
from experiments.access import may_control
from experiments.catalogue import FoundDataset, FoundModel, NotFound
from experiments.documents import ExperimentDocument, InvalidDocument, Problem
from experiments.layout import Material, PlannedCell, PlannedRun
from experiments.models import BaseModel, Cell, Experiment, Run
from experiments.specs import FinetuneSpec, RunSpec, spec_from_json, spec_to_json

MAX_CELLS = 10_000
MAX_POSITION_EMBEDDINGS = 2048  # assumed where a model's config.json does not say


class NameTaken(Exception):
    """An approved experiment has this name already."""


@dataclass(frozen=True)
class Plan:
    """A checked document with its cells: what a person approves."""

    document: ExperimentDocument
    source: Mapping[str, Any]
    cells: tuple[PlannedCell, ...]
    models: Mapping[str, FoundModel]
    dataset: FoundDataset | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [
            _row(cell.name, cell.type, cell.model, [run.spec for run in cell.runs]) for cell in self.cells
        ]
        return _plan_json(self.document.name, rows, list(self.warnings))


def plan(*, data: Mapping[str, Any], user: AbstractUser | None) -> Plan:
    """Check and lay out a document; nothing is stored. `user` is None at the machine's own shell.

    Raises InvalidDocument with every problem found, and PermissionDenied for commands without `run_commands`.
    """
    document = documents.parse(data)
    if document.command is not None and user is not None and not user.has_perm("experiments.run_commands"):
        raise PermissionDenied(
            "Planning a command of your own needs the permission experiments.run_commands."
        )
    _refuse_too_many(document)
    models, dataset = _found(document)
    cells = layout.lay_out(document, _material(models, dataset))
    return Plan(
        document, dict(data), tuple(cells), models, dataset, tuple(_warnings(document, cells, dataset))
    )


@transaction.atomic
def store(*, plan: Plan, user: AbstractUser | None, now: datetime) -> Experiment:
    """Keep the plan as a draft, in place of an earlier draft of one's own. Raises NameTaken."""
    _remove_draft(plan.document.name, user)
    document = plan.document
    experiment = Experiment.objects.create(
        name=document.name,
        question=document.question,
        document=plan.source,
        notes=list(plan.warnings),
        max_parallel=document.max_parallel,
        priority=document.priority,
        evaluation_hold_seconds=document.evaluation_hold_seconds,
        on_node_lost=document.on_node_lost,
        created_by_id=user.pk if user else None,
        planned_at=now,
    )
    dataset = catalogue.record_dataset(plan.dataset, now=now) if plan.dataset else None
    models = {name: catalogue.record_model(found, now=now) for name, found in plan.models.items()}
    for index, cell in enumerate(plan.cells):
        _store_cell(experiment, index, cell, models.get(cell.model or ""), dataset)
    return experiment


def stored_plan_json(experiment: Experiment) -> dict[str, Any]:
    """The plan of a stored experiment, in the shape of Plan.to_json()."""
    cells = experiment.cells.select_related("base_model").prefetch_related("runs")
    rows = [
        _row(
            cell.name,
            cell.type,
            cell.base_model.name if cell.base_model else None,
            [spec_from_json(run.spec) for run in cell.runs.all()],
        )
        for cell in cells
    ]
    return _plan_json(experiment.name, rows, list(experiment.notes))


def _found(document: ExperimentDocument) -> tuple[dict[str, FoundModel], FoundDataset | None]:
    if document.dataset is None:
        return {}, None
    problems: list[Problem] = []
    models: dict[str, FoundModel] = {}
    dataset = None
    for name in layout.models_named(document):
        try:
            models[name] = catalogue.find_model(name)
            problems += _lacks(models[name])
        except NotFound as missing:
            problems.append(missing.problem)
    try:
        dataset = catalogue.find_dataset(document.dataset)
    except NotFound as missing:
        problems.append(missing.problem)
    if problems:
        raise InvalidDocument(problems)
    return models, dataset


def _lacks(model: FoundModel) -> list[Problem]:
    """What torchtune 0.6.1 would stumble over after the run was started."""
    family = model.facts.config.get("model_type")
    if family != "llama":
        message = f"Model {model.name!r} is of the family {family!r}, which cannot be fine-tuned here yet."
        return [Problem("factors.model", message, "Use a Llama model.")]
    tokenizer = model.path / "original" / "tokenizer.model"
    if tokenizer.is_file():
        return []
    message = f"Model {model.name!r}: {tokenizer} is missing, and torchtune reads it."
    return [Problem("factors.model", message, "Download the model with its folder 'original'.")]


def _material(models: Mapping[str, FoundModel], dataset: FoundDataset | None) -> Material:
    if dataset is None:
        return Material()
    if not dataset.facts.split_rows.get("train"):
        known = f"It has: {', '.join(dataset.facts.split_rows)}."
        raise InvalidDocument([Problem("dataset", f"{dataset.path} has no rows in a split 'train'.", known)])
    return Material(
        model_paths={name: str(model.path) for name, model in models.items()},
        max_model_lens={
            name: int(model.facts.config.get("max_position_embeddings", MAX_POSITION_EMBEDDINGS))
            for name, model in models.items()
        },
        split_rows=dataset.facts.split_rows,
        data=dataset.data_source("train"),
    )


def _refuse_too_many(document: ExperimentDocument) -> None:
    count = math.prod(len(levels) for levels in document.factors.values())
    if count > MAX_CELLS:
        message = f"{count} cells are more than {MAX_CELLS}."
        raise InvalidDocument([Problem("factors", message, "Split the experiment.")])


def _warnings(
    document: ExperimentDocument, cells: list[PlannedCell], dataset: FoundDataset | None
) -> list[str]:
    warnings = []
    if document.control:
        controls = sum(cell.type == "control" for cell in cells)
        warnings.append(
            f"The control condition is the base model evaluated without fine-tuning: {controls} evaluation-only cells."
        )
    if dataset is not None and not Path(dataset.path).exists():
        warnings.append(f"Dataset {dataset.name} is not there yet; its generator makes it on approval.")
    if any(cell.finetune and cell.finetune.packed for cell in cells):
        warnings.append("Packed datasets: the steps are not known before the packs are counted.")
    return warnings


def _remove_draft(name: str, user: AbstractUser | None) -> None:
    existing = Experiment.objects.select_for_update().filter(name=name).first()
    if existing is None:
        return
    if not existing.is_draft:
        raise NameTaken(f"Experiment {name!r} was approved already; plan it under a new name.")
    if not may_control(existing, user):
        raise NameTaken(f"Experiment {name!r} is a draft of somebody else; plan it under a new name.")
    existing.delete()


def _store_cell(
    experiment: Experiment, index: int, cell: PlannedCell, model: BaseModel | None, dataset: Any
) -> None:
    row = Cell.objects.create(
        experiment=experiment,
        index=index,
        name=cell.name,
        type=cell.type,
        levels=dict(cell.levels),
        base_model=model,
        dataset=dataset,
        seed=cell.seed,
    )
    stored: dict[str, Run] = {}
    for run in cell.runs:
        stored[run.name] = _store_run(row, run, experiment.priority, stored.get(run.builds_on or ""))


def _store_run(cell: Cell, run: PlannedRun, priority: int, builds_on: Run | None) -> Run:
    needs = run.resources
    return Run.objects.create(
        cell=cell,
        kind=run.kind,
        name=run.name,
        depends_on=builds_on,
        spec=spec_to_json(run.spec),
        engine_key=layout.engine_key(run.spec),
        devices=needs.devices,
        device_memory_mib=needs.device_memory_mib,
        host_memory_mib=needs.host_memory_mib,
        cpu_threads=needs.cpu_threads,
        limit_seconds=needs.limit_seconds,
        priority=priority,
    )


def _row(name: str, type: str, model: str | None, specs: list[RunSpec]) -> dict[str, Any]:
    finetune = next((spec for spec in specs if isinstance(spec, FinetuneSpec)), None)
    steps = finetune.epochs * finetune.steps_per_epoch if finetune and finetune.steps_per_epoch else None
    recipe = finetune.recipe if finetune else None
    return {
        "name": name,
        "type": str(type),
        "model": model,
        "recipe": recipe,
        "steps": steps,
        "estimates": _NO_EVIDENCE,
    }


def _plan_json(name: str, rows: list[dict[str, Any]], warnings: list[str]) -> dict[str, Any]:
    return {
        "experiment": name,
        "runs": rows,
        "totals": {"cells": len(rows), "steps": sum(row["steps"] or 0 for row in rows)},
        "proposals": [],
        "questions": [],
        "warnings": warnings,
        "errors": [],
    }


def _no_evidence() -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "grade": "none", "n": 0, "observations": []}


_NO_EVIDENCE = {figure: _no_evidence() for figure in ("seconds", "peak_memory_mib", "disk_mib")}
