"""What a plan says in words: warnings beside the table, and the log of what was verified, found and computed."""

from collections.abc import Iterable, Iterator, Sequence

from experiments import defaults, documents, harvest
from experiments.documents import ExperimentDocument
from experiments.figures import Grade
from experiments.layout import PlannedCell
from experiments.models import PlanEntry
from experiments.planning.estimates import CellEstimate, Surroundings
from experiments.planning.found import Found
from experiments.questions import Question
from experiments.states import CellType

Entry = tuple[PlanEntry.Kind, str]
MOST_UNUSED = 20
_AUTOMATIC = "max_parallel is auto: "
_FROM_DEFAULTS = {
    *("lora_rank", "lora_alpha", "batch_size", "gradient_accumulation_steps", "epochs", "learning_rate"),
    *("max_seq_len", "packed"),
}


def warnings(
    document: ExperimentDocument,
    cells: Sequence[PlannedCell],
    estimates: Sequence[CellEstimate],
    found: Found,
    around: Surroundings,
) -> Iterator[str]:
    controls = sum(cell.type == CellType.CONTROL for cell in cells)
    if controls:
        yield (
            f"The control condition is the base model evaluated without fine-tuning: {controls} "
            f"evaluation-only cell{'s' if controls > 1 else ''}, no fine-tune."
        )
    for dataset in found.datasets.values():
        yield from dataset.warnings()
    yield from found.truncations(cells)
    if document.window is None:
        yield (
            f"{_AUTOMATIC}it begins with 1 job and grows while devices idle. Starts and ends are worked out "
            "as if it had grown already, and held nothing back."
        )
    yield from _template(document, cells)
    yield from _devices(around)
    yield from _unused(found)


def still_true(notes: Iterable[str], *, window_is_auto: bool) -> list[str]:
    """What a plan warned of, without what people have changed since."""
    return [note for note in notes if window_is_auto or not note.startswith(_AUTOMATIC)]


def entries(
    cells: Sequence[PlannedCell],
    estimates: Sequence[CellEstimate],
    found: Found,
    questions: Sequence[Question],
) -> Iterator[Entry]:
    kind = PlanEntry.Kind
    for model in found.models.values():
        yield (
            kind.VERIFIED,
            (
                f"Model {model.name}: {model.facts.parameter_count:,} parameters, {model.facts.architecture}, "
                f"whole, at {model.path} ({model.facts.content_hash[:12]})."
            ),
        )
    for dataset in found.datasets.values():
        counts = ", ".join(f"{rows:,} {split}" for split, rows in dataset.facts.split_rows.items())
        known = dataset.facts.content_hash[:12] or "to be made"
        yield kind.VERIFIED, f"Dataset {dataset.name}: {counts} rows, at {dataset.path} ({known})."
    for sentence in found.lengths(cells):
        yield kind.COMPUTED, sentence
    yield kind.FOUND, _evidence(estimates)
    runs = sum(len(cell.runs) for cell in cells)
    yield kind.COMPUTED, f"{len(cells)} cells, {runs} runs, {_steps(cells):,} optimizer steps."
    for question in questions:
        yield kind.ASKED, question.text


def _template(document: ExperimentDocument, cells: Sequence[PlannedCell]) -> list[str]:
    tuned = [(cell, cell.settings) for cell in cells if cell.settings is not None]
    said = [documents.said_settings(document, cell.levels) for cell, _ in tuned]
    taken = [settings.model_dump(include=_FROM_DEFAULTS) for _, settings in tuned]
    return defaults.used(said, taken)


def _evidence(estimates: Sequence[CellEstimate]) -> str:
    used = {
        pk
        for estimate in estimates
        for pk in (*estimate.seconds.observations, *estimate.peak_memory_mib.observations)
    }
    grades = [estimate.seconds.grade for estimate in estimates]
    counted = ", ".join(f"{grades.count(grade)} {grade}" for grade in Grade if grade in grades)
    return f"{len(used)} observations speak for this plan. Times of its cells: {counted}."


def _steps(cells: Sequence[PlannedCell]) -> int:
    finetunes = [cell.finetune for cell in cells if cell.finetune]
    return sum(spec.epochs * (spec.steps_per_epoch or 0) for spec in finetunes)


def _devices(around: Surroundings) -> Iterator[str]:
    target, others = around.fleet.target, around.fleet.real[1:]
    if target is None:
        yield "No device has joined the lab yet, so it is not known what this would run on."
    elif others:
        names = ", ".join(kind.name for kind in around.fleet.real if kind is not target)
        yield f"Estimated for {target.name}, the most numerous here; there are also: {names}."


def _unused(found: Found) -> Iterator[str]:
    """Observations of these models that nobody can use before somebody completes them."""
    for model in found.models.values():
        told = harvest.incomplete(model_name=model.name, model_shape=model.facts.shape)
        yield from told[:MOST_UNUSED]
        if len(told) > MOST_UNUSED:
            yield f"{len(told) - MOST_UNUSED} more observations of {model.name} are incomplete and not used."
