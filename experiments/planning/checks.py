"""What would fail after it was started, found before anything is queued."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from experiments import recipes, torchtune_config
from experiments.documents import InvalidDocument, Problem
from experiments.layout import PlannedCell
from experiments.planning.estimates import CellEstimate, Surroundings
from experiments.specs import FinetuneSpec
from experiments.states import CellType
from experiments.torchtune_builders import UnsupportedModel

_MIB = 1024 * 1024


def refuse_what_cannot_run(cells: Sequence[PlannedCell], around: Surroundings) -> None:
    """Recipes that the lab's devices have no use for, and configurations that torchtune would not take or ignore.

    Raises InvalidDocument.
    """
    problems = [problem for cell in cells for problem in _of_devices(cell, around)]
    for finetune in (cell.finetune for cell in cells if cell.finetune is not None):
        problems += _of_configuration(finetune, around)
    if problems:
        raise InvalidDocument(list(dict.fromkeys(problems)))


def refuse_what_does_not_fit_on_disk(cells: Sequence[PlannedCell], estimates: Sequence[CellEstimate]) -> None:
    """Raises InvalidDocument when the checkpoints that stay are larger than what the run root has free."""
    needed_mib = sum(estimate.disk_mib.value or 0.0 for estimate in estimates)
    free_mib = _free_bytes(Path(settings.RUN_ROOT)) / _MIB
    if needed_mib <= free_mib:
        return
    message = (
        f"The checkpoints of {len(cells)} cells take {needed_mib:,.0f} MiB, and {settings.RUN_ROOT} has "
        f"{free_mib:,.0f} MiB free."
    )
    remedy = "Keep fewer (`keep: last`, `best` or `adapter`), or make room."
    raise InvalidDocument([Problem("keep", message, remedy)])


def _of_devices(cell: PlannedCell, around: Surroundings) -> Iterator[Problem]:
    spec, real = cell.finetune, around.fleet.real
    if not real:
        return
    on_cpu = not any(kind.on_gpu for kind in real)
    if on_cpu and spec is not None and (why := recipes.refused_on_cpu(spec.recipe, spec.method)):
        yield Problem("fixed.recipe", f"{cell.name}: {why}", "Use LoRA or a full fine-tune on one device.")
    asked, most = max(run.resources.devices for run in cell.runs), max(kind.most_on_a_node for kind in real)
    if asked > most and cell.type != CellType.SIMULATED:
        message = f"{cell.name} asks for {asked} devices, and no node has more than {most} that are alike."
        yield Problem("resources.devices", message, "Ask for fewer: a job runs on one node.")


def _of_configuration(spec: FinetuneSpec, around: Surroundings) -> list[Problem]:
    try:
        config = _configuration(spec, around)
    except UnsupportedModel as error:
        return [Problem("factors.model", str(error), "Use a Llama model.")]
    return recipes.check_config(recipes.named(spec.recipe, method=spec.method), config)


def _configuration(spec: FinetuneSpec, around: Surroundings) -> dict[str, Any]:
    target = around.fleet.target
    return torchtune_config.build_config(
        spec=spec,
        model_config=around.configs[spec.model_name],
        weight_files=["model.safetensors"],
        output_dir=Path("output"),
        on_gpu=bool(target and target.on_gpu),
    )


def _free_bytes(folder: Path) -> int:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free
