"""Cells and runs of an experiment, laid out from its document and from what was found on disk."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from string import Formatter
from typing import Any

from experiments import documents, naming, recipes
from experiments.documents import ExperimentDocument, InvalidDocument, Problem, TrainingSettings
from experiments.specs import (
    CommandSpec,
    DataSource,
    EngineSettings,
    EvaluateSpec,
    FinetuneSpec,
    Resources,
    RunSpec,
    SimulatedSpec,
)
from experiments.states import CellType, RunKind
from experiments.steps import steps_per_epoch

MAX_EVALUATED_RANK = 512  # of vLLM 0.32


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    kind: RunKind
    name: str
    spec: RunSpec
    resources: Resources
    builds_on: str | None = None  # the name of a run of the same cell


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    name: str
    type: CellType
    levels: Mapping[str, Any]
    runs: tuple[PlannedRun, ...]
    model: str | None = None
    seed: int = 0

    @property
    def finetune(self) -> FinetuneSpec | None:
        return next((run.spec for run in self.runs if isinstance(run.spec, FinetuneSpec)), None)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a document names, as it was found: paths of models, and the dataset's splits."""

    model_paths: Mapping[str, str] = field(default_factory=dict)
    max_model_lens: Mapping[str, int] = field(default_factory=dict)
    split_rows: Mapping[str, int] = field(default_factory=dict)
    data: DataSource | None = None  # of the training split


def lay_out(document: ExperimentDocument, material: Material) -> list[PlannedCell]:
    """All cells, in the order of the factors, controls last. Raises InvalidDocument with every problem found."""
    cells: list[PlannedCell] = []
    problems: list[Problem] = []
    for levels in _crossed(document):
        try:
            cells.append(_cell(document, material, levels))
        except InvalidDocument as invalid:
            problems += invalid.problems
    cells += _controls(document, material) if not problems else []
    problems += naming.collisions([cell.name for cell in cells])
    if problems:
        raise InvalidDocument(list(dict.fromkeys(problems)))
    return cells


def models_named(document: ExperimentDocument) -> list[str]:
    named = document.factors.get("model") or [document.fixed.get("model")]
    return [str(name) for name in named if name is not None]


def engine_key(spec: RunSpec) -> str:
    """Evaluations with the same key can be scored in one engine boot; empty for other runs."""
    if not isinstance(spec, EvaluateSpec):
        return ""
    shared = {"model": spec.model_path, "engine": asdict(spec.engine)}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _crossed(document: ExperimentDocument) -> list[dict[str, Any]]:
    names = list(document.factors)
    return [dict(zip(names, levels, strict=True)) for levels in itertools.product(*document.factors.values())]


def _cell(document: ExperimentDocument, material: Material, levels: Mapping[str, Any]) -> PlannedCell:
    if document.command is not None:
        return _single(document, levels, CellType.COMMAND, RunKind.COMMAND, _command_spec(document, levels))
    if document.simulated is not None:
        spec = SimulatedSpec(duration_seconds=document.simulated.duration_seconds)
        return _single(document, levels, CellType.SIMULATED, RunKind.SIMULATED, spec)
    return _finetuned(document, material, levels)


def _single(
    document: ExperimentDocument, levels: Mapping[str, Any], type: CellType, kind: RunKind, spec: RunSpec
) -> PlannedCell:
    name = naming.cell_name(levels, document.name)
    run = PlannedRun(kind=kind, name=name, spec=spec, resources=_resources(document))
    return PlannedCell(name=name, type=type, levels=levels, runs=(run,))


def _command_spec(document: ExperimentDocument, levels: Mapping[str, Any]) -> CommandSpec:
    assert document.command is not None
    texts = {factor: str(level) for factor, level in levels.items()}
    argv = tuple(_filled_in(part, texts) for part in document.command.argv)
    return CommandSpec(argv=argv, env=document.command.env, expected_files=document.command.expected_files)


def _filled_in(part: str, texts: Mapping[str, str]) -> str:
    """`{factor}` replaced by its level; nothing else of Python's format language, which reaches far."""
    known = f"Use {{factor}} for one of {sorted(texts)}, and {{{{ and }}}} for braces."
    try:
        pieces = list(Formatter().parse(part))
    except ValueError as error:
        raise InvalidDocument([Problem("command.argv", f"{part!r:.200}: {error}.", known)]) from error
    for _, name, spec, conversion in pieces:
        if name is not None and (name not in texts or spec or conversion):
            raise InvalidDocument([Problem("command.argv", f"It names what is no factor: {name!r}.", known)])
    return "".join(literal + (texts[name] if name is not None else "") for literal, name, _, _ in pieces)


def _finetuned(document: ExperimentDocument, material: Material, levels: Mapping[str, Any]) -> PlannedCell:
    settings = documents.training_settings(document, levels)
    _refuse_what_engines_lack(document, settings)
    model = str(levels.get("model", document.fixed.get("model")))
    name = naming.cell_name(levels, document.name)
    spec = _finetune_spec(settings, model, material)
    finetune = PlannedRun(
        kind=RunKind.FINETUNE, name=f"{name}/finetune", spec=spec, resources=_resources(document)
    )
    runs = [finetune]
    if document.evaluation is not None:
        runs.append(_evaluate(document, material, name, model, settings.lora_rank, finetune.name))
    return PlannedCell(
        name=name, type=CellType.FINETUNED, levels=levels, runs=tuple(runs), model=model, seed=settings.seed
    )


def _refuse_what_engines_lack(document: ExperimentDocument, settings: TrainingSettings) -> None:
    problems = []
    if document.resources.devices != 1:
        message = f"{document.resources.devices} devices: {settings.recipe} and its evaluation use one."
        problems.append(Problem("resources.devices", message, "Leave it at 1."))
    if document.evaluation is not None and settings.lora_rank > MAX_EVALUATED_RANK:
        message = f"vLLM has no adapters of rank {settings.lora_rank}."
        problems.append(Problem("fixed.lora_rank", message, f"The largest is {MAX_EVALUATED_RANK}."))
    if problems:
        raise InvalidDocument(problems)


def _controls(document: ExperimentDocument, material: Material) -> list[PlannedCell]:
    if not document.control:
        return []
    cells = []
    for model in models_named(document):
        name = naming.control_name(model)
        run = _evaluate(document, material, name, model, None, None)
        cells.append(
            PlannedCell(name=name, type=CellType.CONTROL, levels={"model": model}, runs=(run,), model=model)
        )
    return cells


def _finetune_spec(settings: TrainingSettings, model: str, material: Material) -> FinetuneSpec:
    problems = recipes.check(settings.recipe, settings.torchtune)
    if problems:
        raise InvalidDocument(problems)
    assert material.data is not None
    rows = material.split_rows[material.data.split]
    return FinetuneSpec(
        model_name=model,
        model_path=material.model_paths[model],
        data=material.data,
        rows=rows,
        steps_per_epoch=_checked_steps(settings, rows),
        lora_alpha=settings.lora_alpha or 2 * settings.lora_rank,
        overrides=recipes.flatten(settings.torchtune),
        **settings.model_dump(exclude={"lora_alpha", "torchtune"}),
    )


def _checked_steps(settings: TrainingSettings, rows: int) -> int | None:
    if settings.packed:
        return None
    steps = steps_per_epoch(
        rows=rows,
        batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_steps_per_epoch=settings.max_steps_per_epoch,
    )
    if steps:
        return steps
    asked = f"batch_size {settings.batch_size} times accumulation {settings.gradient_accumulation_steps}"
    message = (
        f"Nothing would be trained: {asked} is more than the {rows} training rows, so an epoch has 0 steps."
    )
    raise InvalidDocument([Problem("fixed.batch_size", message, "Lower the batch size or the accumulation.")])


def _evaluate(
    document: ExperimentDocument,
    material: Material,
    cell: str,
    model: str,
    rank: int | None,
    builds_on: str | None,
) -> PlannedRun:
    assert document.evaluation is not None and material.data is not None
    asked = document.evaluation
    if asked.split not in material.split_rows:
        known = f"It has: {', '.join(material.split_rows)}."
        raise InvalidDocument(
            [Problem("evaluation.split", f"The dataset has no split {asked.split!r}.", known)]
        )
    spec = EvaluateSpec(
        model_name=model,
        model_path=material.model_paths[model],
        data=DataSource(**{**asdict(material.data), "split": asked.split}),
        rows=material.split_rows[asked.split],
        lora_rank=rank,
        engine=EngineSettings(max_model_len=_engine_length(document, material, model)),
        **asked.model_dump(exclude={"split"}),
    )
    resources = _resources(document)
    return PlannedRun(
        kind=RunKind.EVALUATE, name=f"{cell}/evaluate", spec=spec, resources=resources, builds_on=builds_on
    )


def _engine_length(document: ExperimentDocument, material: Material, model: str) -> int:
    """Prompts as long as the longest that was trained on, and the answer."""
    assert document.evaluation is not None
    lengths = document.factors.get("max_seq_len") or [document.fixed.get("max_seq_len", 512)]
    wanted = max(int(length) for length in lengths) + document.evaluation.max_tokens
    return min(wanted, material.max_model_lens.get(model, wanted))


def _resources(document: ExperimentDocument) -> Resources:
    return Resources(**document.resources.model_dump(), limit_seconds=document.limits.timeout_seconds)
