"""What a document leaves unsaid and matters: it is asked, and approval has to answer."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from experiments.defaults import Defaults
from experiments.documents import (
    ADAPTER,
    ExperimentDocument,
    InvalidDocument,
    Problem,
    changed,
    has_crossed_cells,
    models_trained,
    nearest,
    parse,
)

EPOCHS = "fixed.epochs"
VALIDATION = "validation"
VALIDATION_SPLIT = "validation"


@dataclass(frozen=True, kw_only=True)
class Question:
    key: str  # the place in the document that an answer goes to
    text: str
    suggestion: Any = None  # what may be taken for an answer; None where only a person can say

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def questions(
    document: ExperimentDocument, *, split_rows: Mapping[str, int], defaults: Defaults
) -> list[Question]:
    """`split_rows` are those of its datasets."""
    is_trained = document.trains and bool(models_trained(document))
    return list(_asked(document, split_rows, defaults)) if is_trained else []


def answered(data: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the answers written in. Raises InvalidDocument for keys that nobody asked and bad values."""
    known = [EPOCHS, VALIDATION]
    problems = [
        Problem(key, f"Nothing was asked about {key!r}.", nearest(key, known))
        for key in answers
        if key not in known
    ]
    if problems:
        raise InvalidDocument(problems)
    new = changed(data, answers)
    parse(new)
    return new


def _asked(
    document: ExperimentDocument, split_rows: Mapping[str, int], defaults: Defaults
) -> Iterator[Question]:
    if _lacks_epochs(document):
        yield Question(
            key=EPOCHS,
            text=f"How many epochs? The document does not say; the plan shows the template's {defaults.epochs}.",
        )
    if _leaves_validation_open(document) and split_rows.get(VALIDATION_SPLIT):
        rows = split_rows[VALIDATION_SPLIT]
        yield Question(
            key=VALIDATION,
            text=(
                f"Shall the loss on the {rows:,} validation rows be measured while training goes on? "
                "It costs time: false, or {every_n_steps: 50}."
            ),
            suggestion=False,
        )


def _lacks_epochs(document: ExperimentDocument) -> bool:
    if "epochs" in document.fixed or "epochs" in document.factors:
        return False
    trained = [cell for cell in document.cells if ADAPTER not in cell]
    return has_crossed_cells(document) or any("epochs" not in cell for cell in trained)


def _leaves_validation_open(document: ExperimentDocument) -> bool:
    """Several devices cannot validate, and a recipe that is named does or does not."""
    said = document.validation is not None or "recipe" in document.fixed
    return not said and document.resources.devices == 1
