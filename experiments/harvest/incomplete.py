"""Observations of which too little is known: shown with what is missing, used for nothing."""

from collections.abc import Sequence

from django.db.models import Q

from experiments.harvest.sentences import unused
from experiments.models import Observation


def incomplete(*, model_name: str, model_shape: str) -> list[str]:
    """A sentence for those that may be of this model and lack the same, the newest first."""
    of_model = Q(model_name__iexact=model_name)
    if model_shape:
        of_model |= Q(model_shape=model_shape)
    alike: dict[tuple[str, str], list[Observation]] = {}
    for row in Observation.objects.filter(of_model, is_complete=False).order_by("-id"):
        alike.setdefault((row.metric, row.incomplete_because), []).append(row)
    return [_sentence(rows) for rows in alike.values()]


def _sentence(rows: Sequence[Observation]) -> str:
    more = f" So it is with {len(rows) - 1} more like it." if len(rows) > 1 else ""
    return unused(rows[0]) + more
