"""Fine-tunes: from settings and material to a spec whose steps are known."""

from experiments import recipes
from experiments.documents import ExperimentDocument, InvalidDocument, Problem, TrainingSettings
from experiments.layout.material import Chosen, Material
from experiments.specs import FinetuneSpec, ValidationSpec, Workload
from experiments.steps import steps_per_epoch

TRAIN = "train"


def finetune_spec(
    document: ExperimentDocument, settings: TrainingSettings, chosen: Chosen, material: Material
) -> FinetuneSpec:
    """Raises InvalidDocument."""
    devices = document.resources.devices
    recipe = recipes.choose(
        method=settings.method,
        devices=devices,
        validation=bool(document.validation),
        asked=settings.recipe,
    )
    problems = recipes.check(recipe, settings.torchtune)
    if document.keep == "adapter" and settings.method == "full":
        problems.append(Problem("keep", "A full fine-tune makes no adapter.", "Use keep: last or best."))
    if problems:
        raise InvalidDocument(problems)
    data = material.datasets[chosen.dataset]
    workload = material.workload(settings, chosen, devices)
    return FinetuneSpec(
        model_name=chosen.model,
        model_path=material.model_paths[chosen.model],
        data=material.source(chosen, TRAIN),
        rows=data.split_rows[TRAIN],
        workload=workload,
        steps_per_epoch=_checked_steps(settings, data.split_rows[TRAIN], workload, devices),
        world_size=devices,
        validation=_validation(document, chosen, material),
        recipe=recipe.name,
        recipe_file=material.recipe_files.get(recipe.name),
        keep=document.keep,
        overrides=recipes.flatten(settings.torchtune),
        **settings.model_dump(exclude={"recipe", "torchtune"}),
    )


def _validation(document: ExperimentDocument, chosen: Chosen, material: Material) -> ValidationSpec | None:
    asked, data = document.validation, material.datasets[chosen.dataset]
    if not asked:
        return None
    if not data.split_rows.get(asked.split):
        known = f"It has: {', '.join(data.split_rows)}."
        message = f"{chosen.dataset_in_words} has no rows in a split {asked.split!r}."
        raise InvalidDocument([Problem("validation.split", message, known)])
    return ValidationSpec(
        data=material.source(chosen, asked.split),
        rows=data.split_rows[asked.split],
        every_n_steps=asked.every_n_steps,
        max_batches=asked.max_batches,
    )


def _checked_steps(
    settings: TrainingSettings, rows: int, workload: Workload | None, devices: int
) -> int | None:
    if workload is None and settings.packed:
        return None
    samples = workload.samples if workload else rows
    steps = steps_per_epoch(
        rows=samples,
        batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_steps_per_epoch=settings.max_steps_per_epoch,
        world_size=devices,
    )
    if steps:
        return steps
    asked = f"batch_size {settings.batch_size} times accumulation {settings.gradient_accumulation_steps}"
    what = (
        f"the {samples} packs of the {rows} training rows" if settings.packed else f"the {rows} training rows"
    )
    message = f"Nothing would be trained: {asked} is more than {what}, so an epoch has 0 steps."
    raise InvalidDocument([Problem("fixed.batch_size", message, "Lower the batch size or the accumulation.")])
