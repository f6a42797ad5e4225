"""Earlier logs become observations: what is found in files and trees, read and kept."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction

from experiments.conditions import Metric
from experiments.models import Observation, Run
from experiments.prior import facts, files, keeping, saying
from experiments.prior.facts import RawFact, Start
from experiments.prior.files import Found
from experiments.prior.saying import Said
from experiments.prior.sources import Told, told_of


@dataclass
class Harvested:
    """What became of what was found."""

    new: int = 0
    known: int = 0  # harvested before
    completed: int = 0  # of those: by what was said now
    incomplete: list[Observation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def found_anything(self) -> bool:
        return bool(self.new or self.known)

    def complain(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def harvest_paths(
    *,
    paths: Iterable[Path],
    said: Mapping[str, Any],
    by: str,
    now: datetime,
    leave_out: Collection[Path] = (),
) -> Harvested:
    """Read files and trees; twice is the same as once. What is said fills in only what the sources do not say.

    The lab's own runs are left out, whose measurements are kept when they end, and so are folders to leave out.
    Raises InvalidDocument for conditions that do not exist or fit. A file that cannot be read is a problem, and the
    rest goes on.
    """
    harvest = _Harvest(saying.understood(said, by=by), now)
    own = {Path(folder) for folder in Run.every.exclude(directory="").values_list("directory", flat=True)}
    for path in paths:
        root = path.resolve()
        if not root.exists():
            harvest.harvested.complain(f"{path} is not there.")
            continue
        harvest.tree(root, leave_out=own | set(leave_out))
    return harvest.harvested


class _Harvest:
    def __init__(self, said: Said, now: datetime) -> None:
        self.harvested = Harvested()
        self._said = said
        self._now = now
        self._cut_short: set[str] = set()  # metrics files of runs that did not come to their end

    def tree(self, root: Path, *, leave_out: Collection[Path]) -> None:
        """Logs first: they say of a metrics file whether its run came to its end."""
        if any(folder in leave_out for folder in (root, *root.parents)):
            self.harvested.complain(
                f"{root} is of a run of this lab, whose measurements are kept when it ends."
            )
            return
        found = list(files.find(root, leave_out=leave_out, on_error=self._unreadable))
        for one in sorted(found, key=lambda one: one.is_metrics):
            self._file(one, root)

    def _unreadable(self, error: OSError) -> None:
        self.harvested.complain(f"{error.filename} cannot be read: {error.strerror}.")

    def _file(self, found: Found, root: Path) -> None:
        try:
            for start in facts.read(found):
                self._start(start, found, root)
        except OSError as error:
            self.harvested.complain(f"{found.path} cannot be read: {error.strerror or error}.")

    def _start(self, start: Start, found: Found, root: Path) -> None:
        told = told_of(start, found)
        for problem in (*told.problems, *self._not_taken(told, found)):
            self.harvested.complain(problem)
        self._note_the_end(start, told)
        with transaction.atomic():
            for fact in start.facts:
                self._fact(fact, start, found, root, told)

    def _fact(self, fact: RawFact, start: Start, found: Found, root: Path, told: Told) -> None:
        if fact.metric == Metric.SECONDS_PER_STEP and told.validates:
            where = f"{found.path} line {fact.line}"
            self.harvested.complain(
                f"The speed in {where} is not used: validation is in the time of its steps."
            )
            return
        fact = replace(fact, is_bound=fact.is_bound or found.path.name in self._cut_short)
        kept = keeping.keep(
            fact, start, found, root=root, told=told.conditions, said=self._said, now=self._now
        )
        self.harvested.new += not kept.was_known
        self.harvested.known += kept.was_known
        self.harvested.completed += kept.was_completed
        if kept.problem:
            self.harvested.complain(kept.problem)
        if not kept.observation.is_complete:
            self.harvested.incomplete.append(kept.observation)

    def _not_taken(self, told: Told, found: Found) -> list[str]:
        named = keeping.not_taken(told.conditions, self._said)
        return [f"{found.path} says it otherwise: {what}." for what in named]

    def _note_the_end(self, start: Start, told: Told) -> None:
        segment = start.segment
        if segment is None or not segment.metrics_file:
            return
        if segment.is_cut_short or segment.last_epoch < told.conditions.get("epochs", 0):
            self._cut_short.add(segment.metrics_file)
