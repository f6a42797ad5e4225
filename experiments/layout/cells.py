"""All cells of an experiment: trained ones, adapters, controls, commands."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from experiments import documents, naming
from experiments.defaults import Defaults
from experiments.documents import ADAPTER, MAX_PROBLEMS, ExperimentDocument, InvalidDocument, Problem
from experiments.layout import names
from experiments.layout.evaluations import evaluation
from experiments.layout.finetunes import finetune_spec
from experiments.layout.levels import levels_of_cells
from experiments.layout.material import ONLY, Chosen, Material, PlannedCell, PlannedRun
from experiments.layout.programs import command_spec
from experiments.specs import Resources, RunSpec, SimulatedSpec
from experiments.states import CellType, RunKind


def lay_out(document: ExperimentDocument, material: Material) -> list[PlannedCell]:
    """All cells, in the order of the factors, controls last. Raises InvalidDocument with every problem found."""
    names.check(document)
    material = replace(material, longest_row=_longest_row(document, material.defaults))
    cells: list[PlannedCell] = []
    problems: list[Problem] = []
    for levels in levels_of_cells(document):
        try:
            cells.append(_cell(document, material, levels))
        except InvalidDocument as invalid:
            problems += invalid.problems
    cells += _controls(document, material) if not problems else []
    levels_by_name = [(cell.name, cell.levels) for cell in cells]
    problems += naming.refused(levels_by_name, template=document.name_template)
    if problems:
        raise InvalidDocument(list(dict.fromkeys(problems))[:MAX_PROBLEMS])
    return cells


def adapters_named(document: ExperimentDocument) -> list[str]:
    return [str(cell[ADAPTER]) for cell in document.cells if ADAPTER in cell]


def _cell(document: ExperimentDocument, material: Material, levels: Mapping[str, Any]) -> PlannedCell:
    if document.command is not None:
        spec = command_spec(document, levels)
        return _single(document, material, levels, CellType.COMMAND, RunKind.COMMAND, spec)
    if document.simulated is not None:
        simulated = SimulatedSpec(duration_seconds=document.simulated.duration_seconds)
        return _single(document, material, levels, CellType.SIMULATED, RunKind.SIMULATED, simulated)
    if ADAPTER in levels:
        return _of_adapter(document, material, levels)
    return _finetuned(document, material, levels)


def _single(
    document: ExperimentDocument,
    material: Material,
    levels: Mapping[str, Any],
    type: CellType,
    kind: RunKind,
    spec: RunSpec,
) -> PlannedCell:
    name = names.of_cell(document, material, levels)
    run = PlannedRun(kind=kind, name=name, spec=spec, resources=_resources(document))
    return PlannedCell(name=name, type=type, levels=levels, runs=(run,))


def _finetuned(document: ExperimentDocument, material: Material, levels: Mapping[str, Any]) -> PlannedCell:
    chosen = _chosen(document, levels)
    count = material.parameter_counts.get(chosen.model)
    settings = documents.training_settings(
        document, levels, defaults=material.defaults, parameter_count=count
    )
    name = names.of_cell(document, material, levels, chosen, settings)
    spec, resources = finetune_spec(document, settings, chosen, material), _resources(document)
    tuned = PlannedRun(kind=RunKind.FINETUNE, name=f"{name}/finetune", spec=spec, resources=resources)
    runs = [tuned]
    if document.evaluation is not None:
        rank = None if settings.method == "full" else settings.lora_rank
        runs.append(
            evaluation(
                document,
                material,
                cell=name,
                chosen=chosen,
                resources=resources,
                rank=rank,
                builds_on=tuned.name,
            )
        )
    return PlannedCell(
        name=name,
        type=CellType.FINETUNED,
        levels=levels,
        runs=tuple(runs),
        chosen=chosen,
        seed=settings.seed,
        settings=settings,
    )


def _of_adapter(document: ExperimentDocument, material: Material, levels: Mapping[str, Any]) -> PlannedCell:
    chosen, found = _chosen(document, levels), material.adapters[str(levels[ADAPTER])]
    name = names.of_cell(document, material, levels, chosen)
    run = evaluation(
        document,
        material,
        cell=name,
        chosen=chosen,
        resources=_resources(document),
        rank=found.rank,
        adapter_path=found.path,
    )
    return PlannedCell(name=name, type=CellType.ADAPTER, levels=levels, runs=(run,), chosen=chosen)


def _controls(document: ExperimentDocument, material: Material) -> Iterator[PlannedCell]:
    if not document.control:
        return
    every = list(dict.fromkeys(_chosen(document, levels) for levels in levels_of_cells(document)))
    for chosen in every:
        name = names.of_control(document, material, chosen, among=every)
        run = evaluation(document, material, cell=name, chosen=chosen, resources=_resources(document))
        levels = {factor: getattr(chosen, factor) for factor in ("model", "dataset", "prompt")}
        said = {factor: level for factor, level in levels.items() if level not in (None, ONLY)}
        yield PlannedCell(name=name, type=CellType.CONTROL, levels=said, runs=(run,), chosen=chosen)


def _longest_row(document: ExperimentDocument, told: Defaults) -> int:
    lengths = [
        documents.said_settings(document, cell).get("max_seq_len") for cell in levels_of_cells(document)
    ]
    known = [length for length in lengths if isinstance(length, int)]
    return max([*known, told.max_seq_len] if len(known) < len(lengths) else known)


def _chosen(document: ExperimentDocument, levels: Mapping[str, Any]) -> Chosen:
    said = {**document.fixed, **levels}
    return Chosen(model=said["model"], dataset=said.get("dataset", ONLY), prompt=said.get("prompt"))


def _resources(document: ExperimentDocument) -> Resources:
    return Resources(**document.resources.model_dump(), limit_seconds=document.limits.timeout_seconds)
