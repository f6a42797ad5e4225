"""How far experiments are, in one query for all that a page shows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import Count

from experiments.models import Experiment, Run
from experiments.states import TERMINAL, RunState


@dataclass(frozen=True)
class Progress:
    is_draft: bool
    runs: Counter[str] = field(default_factory=Counter)  # by state

    @property
    def total(self) -> int:
        return self.runs.total()

    @property
    def finished(self) -> int:
        return sum(self.runs[state] for state in TERMINAL)

    @property
    def is_finished(self) -> bool:
        return not self.is_draft and self.finished == self.total

    @property
    def state(self) -> str:
        if self.is_draft and not self.finished:
            return "DRAFT"
        if self.finished < self.total:
            return RunState.RUNNING if self.finished or self.runs[RunState.RUNNING] else RunState.QUEUED
        worst_first = (RunState.FAILED, RunState.CANCELLED)
        return next((state for state in worst_first if self.runs[state]), RunState.SUCCEEDED)

    @property
    def text(self) -> str:
        failed = self.runs[RunState.FAILED]
        return f"{self.finished} / {self.total}" + (f", {failed} failed" if failed else "")


def progress_of(experiments: Iterable[Experiment]) -> dict[int, Progress]:
    drafts = {experiment.pk: experiment.is_draft for experiment in experiments}
    runs: dict[int, Counter[str]] = {pk: Counter() for pk in drafts}
    counted = Run.objects.filter(cell__experiment__in=drafts).order_by()
    for pk, state, count in counted.values_list("cell__experiment", "state").annotate(count=Count("pk")):
        runs[pk][state] = count
    return {pk: Progress(drafts[pk], runs[pk]) for pk in drafts}
