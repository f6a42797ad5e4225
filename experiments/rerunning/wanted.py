"""Which runs of an experiment are to be run again, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from experiments.layout import PlannedRun
from experiments.models import Experiment, Run
from experiments.planning.estimates import RunEstimate
from experiments.states import TERMINAL, FinishReason, RunState


class Which(StrEnum):
    FAILED = "failed"  # or cancelled, by a person or because what they build on did not succeed
    MISSING = "missing"  # succeeded, and their results are not there any more
    CHANGED = "changed"  # what they ran with is another by now


@dataclass(frozen=True, kw_only=True)
class Anew:
    """What a run is to do now, where that is not what it did."""

    run: PlannedRun
    estimate: RunEstimate
    cell_row: Mapping[str, Any]  # of the plan
    differences: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run that is to be run again."""

    run_id: int
    name: str
    kind: str
    state: str
    attempt: int  # which the next one will be
    why: str
    anew: Anew | None = None  # None: it does the same again

    @property
    def changes_spec(self) -> bool:
        return self.anew is not None


def want(run: Run, why: str, anew: Anew | None = None) -> Wanted:
    return Wanted(
        run_id=run.pk,
        name=run.name,
        kind=run.kind,
        state=run.state,
        attempt=run.attempt + 1,
        why=why,
        anew=anew,
    )


def failed(*, experiment: Experiment) -> list[Wanted]:
    """Whatever ended without success; nothing that succeeded."""
    runs = Run.objects.filter(cell__experiment=experiment, state__in=(RunState.FAILED, RunState.CANCELLED))
    return [want(run, _how_it_ended(run)) for run in runs.order_by("pk")]


def with_dependents(
    wanted: Iterable[Wanted], *, experiment: Experiment, anew: Mapping[int, Anew]
) -> list[Wanted]:
    """Also what ended and builds on one of them, since it would not be of its latest attempt any more.

    And what was not of it when it ended: it ran while what it builds on was run again.
    """
    found = {want.run_id: want for want in wanted}
    ended = Run.objects.filter(cell__experiment=experiment, state__in=TERMINAL, depends_on__isnull=False)
    left = [run for run in ended.select_related("depends_on").order_by("pk") if run.pk not in found]
    while more := {run.pk: why for run in left if (why := _why_dependent(run, found))}:
        found |= {run.pk: want(run, more[run.pk], anew.get(run.pk)) for run in left if run.pk in more}
        left = [run for run in left if run.pk not in more]
    return list(found.values())


def _why_dependent(run: Run, found: Mapping[int, Wanted]) -> str:
    before = run.depends_on
    if before is None or not (before.superseded_by_id or before.pk in found):
        return ""
    return f"builds on {before}, which {'was' if before.superseded_by_id else 'is'} run again"


def _how_it_ended(run: Run) -> str:
    if run.reason == FinishReason.DEPENDENCY_FAILED:
        return "what it builds on did not succeed"
    return f"{run.reason}: {run.message}" if run.reason else run.state
