"""No run is lost, and none is doubled: by the rows and the ledger, which know nothing of each other."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise

from experiments.states import ALLOWED, MAX_LAUNCHES, TERMINAL, RunState
from tests.faults.executions import Execution, by_key, executions
from tests.faults.findings import Finding, Rule
from tests.faults.history import EventRow, History, RunRow

LOST_REASONS = {"SUPERVISOR_LOST", "NODE_LOST"}


def lost(history: History) -> Iterator[Finding]:
    """Whatever was submitted has ended well, or was lost as often as the design allows, each time for a known cause."""
    events = _events_of(history)
    proven = {(each.job, each.key) for each in executions(history.signs) if each.is_whole}
    promised = {one.experiment for one in history.submitted}
    for run in history.runs:
        if run.state == RunState.PLANNED and run.key.partition("/")[0] not in promised:
            continue  # a plan whose approval was broken off, and reported so
        if told := _how_lost(run, events[run.id], proven):
            yield Finding(Rule.LOST, f"run {run.id} ({run.key}) {told}")
    found = Counter(run.key.partition("/")[0] for run in history.runs)
    for one in history.submitted:
        if found[one.experiment] < one.runs:
            told = f"{one.experiment} was queued with {one.runs} runs, and has {found[one.experiment]}"
            yield Finding(Rule.LOST, told)
    killed = {fault.job for fault in history.faults}
    for job in history.jobs:
        if job.ending == "supervisor_lost" and job.id not in killed:
            yield Finding(Rule.LOST, f"job {job.id} lost a supervisor that nobody had killed")


def doubled(history: History) -> Iterator[Finding]:
    """One live execution a run, one in a job, none after the success, and no job that the run was not given to."""
    found = by_key(executions(history.signs))
    events = _events_of(history)
    for run in history.runs:
        yield from (Finding(Rule.DOUBLED, told) for told in _bad_transitions(run, events[run.id]))
        yield from (
            Finding(Rule.DOUBLED, told) for told in _doubled_executions(run, events[run.id], found[run.key])
        )
    for key in set(found) - {run.key for run in history.runs}:
        yield Finding(Rule.DOUBLED, f"{key} was executed, and is no run")


def _events_of(history: History) -> dict[int, list[EventRow]]:
    grouped: dict[int, list[EventRow]] = defaultdict(list)
    for event in sorted(history.events, key=lambda event: event.id):
        grouped[event.run].append(event)
    return grouped


def _how_lost(run: RunRow, events: list[EventRow], proven: set[tuple[int, str]]) -> str:
    if run.state not in TERMINAL:
        return f"is {run.state} after everything had ended"
    if run.state == RunState.SUCCEEDED:
        by = events[-1].job if events else None
        is_proven = run.kind != "command" or (by, run.key) in proven
        return "" if is_proven else f"succeeded by job {by}, in which it did not come to its end"
    times_lost = sum(event.reason in LOST_REASONS for event in events)
    if run.reason == "CRASH_LOOP" and times_lost >= MAX_LAUNCHES - 1:
        return ""  # the last loss is told by the reason itself
    return f"is {run.state} ({run.reason}) and was lost {times_lost} times"


def _bad_transitions(run: RunRow, events: list[EventRow]) -> Iterator[str]:
    for before, after in pairwise(events):
        if after.state not in ALLOWED[RunState(before.state)]:
            yield f"run {run.id} went from {before.state} to {after.state}"
        elif before.state == RunState.RUNNING and after.job != before.job:
            yield f"run {run.id} ran in job {before.job} and was ended by job {after.job}"


def _doubled_executions(run: RunRow, events: list[EventRow], found: list[Execution]) -> Iterator[str]:
    given_to = {event.job for event in events if event.state == RunState.RUNNING}
    yield from (f"not given to that job: {each}" for each in found if each.job not in given_to)
    yield from (
        f"twice in one job: {a}; {b}" if a.job == b.job else f"two at once: {a}; {b}"
        for a, b in combinations(found, 2)
        if a.job == b.job or a.overlaps(b)
    )
    succeeded = next((event.job for event in events if event.state == RunState.SUCCEEDED), None)
    whole = [each.last_sign_at for each in found if each.job == succeeded and each.is_whole]
    yield from (
        f"begun again after it had succeeded: {each}" for each in found if whole and each.began_at > whole[0]
    )
