"""Evaluations: of a fine-tune, of the base model, of an adapter that is there already."""

import hashlib
import json
from dataclasses import asdict

from experiments.documents import ExperimentDocument, InvalidDocument, Problem
from experiments.layout.material import Chosen, Material, PlannedRun
from experiments.specs import EngineSettings, EvaluateSpec, Resources
from experiments.states import RunKind

MAX_EVALUATED_RANK = 512  # of vLLM 0.32


def evaluation(
    document: ExperimentDocument,
    material: Material,
    *,
    cell: str,
    chosen: Chosen,
    resources: Resources,
    rank: int | None = None,
    builds_on: str | None = None,
    adapter_path: str | None = None,
) -> PlannedRun:
    """Raises InvalidDocument."""
    asked = document.evaluation
    assert asked is not None  # who plans an evaluation has looked
    data = material.datasets[chosen.dataset]
    _refuse(document, rank, chosen, material)
    spec = EvaluateSpec(
        model_name=chosen.model,
        model_path=material.model_paths[chosen.model],
        data=material.source(chosen, asked.split),
        rows=data.split_rows[asked.split],
        lora_rank=rank,
        adapter_path=adapter_path,
        engine=EngineSettings(
            max_model_len=_engine_length(document, material, chosen.model),
            tensor_parallel_size=resources.devices,
        ),
        **asked.model_dump(exclude={"split"}),
    )
    name = f"{cell}/evaluate"
    return PlannedRun(kind=RunKind.EVALUATE, name=name, spec=spec, resources=resources, builds_on=builds_on)


def engine_key(run: PlannedRun) -> str:
    """Evaluations with the same key can be scored in one engine boot; empty for other runs."""
    spec = run.spec
    if not isinstance(spec, EvaluateSpec):
        return ""
    has_own_weights = run.builds_on is not None and spec.lora_rank is None
    weights = run.name if has_own_weights else spec.model_path
    shared = {"model": weights, "engine": asdict(spec.engine)}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _refuse(document: ExperimentDocument, rank: int | None, chosen: Chosen, material: Material) -> None:
    asked, problems = document.evaluation, []
    split_rows = material.datasets[chosen.dataset].split_rows
    if asked is not None and not split_rows.get(asked.split):
        message = f"{chosen.dataset_in_words} has no rows in a split {asked.split!r}."
        problems.append(Problem("evaluation.split", message, f"It has: {', '.join(split_rows)}."))
    if rank is not None and rank > MAX_EVALUATED_RANK:
        message = f"vLLM has no adapters of rank {rank}."
        problems.append(Problem("fixed.lora_rank", message, f"The largest is {MAX_EVALUATED_RANK}."))
    if problems:
        raise InvalidDocument(problems)


def _engine_length(document: ExperimentDocument, material: Material, model: str) -> int:
    """Prompts as long as the longest that was trained on, and the answer."""
    assert document.evaluation is not None
    wanted = material.longest_row + document.evaluation.max_tokens
    return min(wanted, material.max_model_lens.get(model, wanted))
