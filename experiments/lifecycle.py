"""The only writer of a run's state.

Every transition is a guarded update: it names the state that it leaves, and, for a running run, the job that may
speak for it (the fencing token). Zero rows means that somebody else was first, which is an outcome: the function
returns False, or leaves the run out of what it returns.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery

from experiments.models import Experiment, Run, RunEvent
from experiments.models.runs import RunQuerySet
from experiments.retries import Circumstances, Launched, Retry, retry
from experiments.specs import Outcome
from experiments.states import ALLOWED, REASONS, TERMINAL, Again, FinishReason, RunKind, RunState, turn_of


class NotADraft(Exception):
    """The experiment was approved already, or has no cells."""


@transaction.atomic
def approve(*, experiment: Experiment, user: AbstractUser | None, now: datetime) -> int:
    """Approve the plan and queue all its runs; returns how many. Raises NotADraft."""
    approved = Experiment.objects.filter(pk=experiment.pk, approved_at__isnull=True).update(
        approved_at=now, approved_by_id=user.pk if user else None
    )
    if not approved:
        raise NotADraft(f"Experiment {experiment.name!r} is approved already; plan it under a new name.")
    experiment.refresh_from_db()
    runs = Run.objects.filter(cell__experiment=experiment)
    _make_ready(runs.filter(depends_on__isnull=True), now)
    return _move(runs, RunState.PLANNED, RunState.QUEUED, now, queued_at=now)


@transaction.atomic
def queue(*, run_ids: Iterable[int], now: datetime) -> int:
    """PLANNED -> QUEUED for runs that join an experiment which goes on already; returns how many."""
    approved = Run.objects.filter(pk__in=list(run_ids), cell__experiment__approved_at__isnull=False)
    runs = Run.objects.filter(pk__in=list(approved.values_list("pk", flat=True)))  # locks no experiment
    _make_ready(runs.filter(Q(depends_on__isnull=True) | Q(depends_on__state=RunState.SUCCEEDED)), now)
    return _move(runs, RunState.PLANNED, RunState.QUEUED, now, queued_at=now)


@transaction.atomic
def supersede(*, run_ids: Collection[int]) -> int:
    """Let the next attempts, which are there, take the place of runs that have ended; returns how many.

    What waits for one of them waits for its next attempt from then on.
    """
    following = Run.every.filter(
        cell=OuterRef("cell"), name=OuterRef("name"), attempt=OuterRef("attempt") + 1
    ).values("pk")
    ended = Run.objects.filter(pk__in=run_ids, state__in=TERMINAL)
    superseded = ended.update(superseded_by=Subquery(following))
    waiting = Run.objects.filter(depends_on__in=run_ids, state__in=[RunState.PLANNED, RunState.QUEUED])
    instead = Run.every.filter(pk=OuterRef("depends_on")).values("superseded_by")
    waiting.update(depends_on=Subquery(instead), ready_at=None, turn_at=None)
    return superseded


def start(
    *,
    job_of: Mapping[int, int],
    token: int | Subquery,
    directory: str | Subquery,
    now: datetime,
) -> int:
    """QUEUED -> RUNNING, each run under the fencing token of its new job (run id -> job id); returns how many it moved.

    For runs of several jobs, `token` and `directory` are subqueries that find those of each.
    """
    queued = Run.objects.filter(pk__in=job_of, state=RunState.QUEUED, cancel_requested_at__isnull=True)
    with transaction.atomic(savepoint=False):
        moved = queued.update(
            state=RunState.RUNNING,
            fencing_token=token,
            directory=directory,
            launches_count=F("launches_count") + 1,
            started_at=now,
            reason="",  # of an earlier launch; the events keep it
            message="",
        )
        if moved:
            ids = job_of if moved == len(job_of) else _started(job_of)
            _record(ids, RunState.RUNNING, {}, job_of, now)
        return moved


@transaction.atomic(savepoint=False)
def succeed(*, job_of: Mapping[int, int], now: datetime) -> set[int]:
    """End runs that succeeded, each as its job (run id -> job id) verified it; returns those that it ended."""
    running = Run.objects.filter(pk__in=job_of, state=RunState.RUNNING).select_for_update()
    tokens = running.values_list("pk", "fencing_token")
    ids = {run_id for run_id, token in tokens if token == job_of[run_id]}
    told = {"reason": "", "message": "", "log_tail": "", "finished_at": now}
    _enter(ids, RunState.RUNNING, RunState.SUCCEEDED, told, job_of, now)
    _make_ready(Run.objects.filter(depends_on__in=ids), now)
    return ids


@transaction.atomic
def finish(
    *, run_id: int, job_id: int, outcome: Outcome, log_tail: str, around: Circumstances, now: datetime
) -> bool:
    """End a running run as its job's verification found it, or queue it again; a stale job changes nothing."""
    if outcome.succeeded:
        return _end(run_id, job_id, RunState.SUCCEEDED, outcome, "", now)
    reason = FinishReason(outcome.reason)
    if reason is FinishReason.CANCELLED_BY_USER:
        return _end(run_id, job_id, RunState.CANCELLED, _cancelled(run_id, outcome), log_tail, now)
    if again := _retry(run_id, job_id, reason, around):
        return _requeue(run_id, job_id, outcome, again, now)
    if _is_lost_too_often(run_id, reason):
        outcome = _crash_loop(outcome)
    return _end(run_id, job_id, RunState.FAILED, outcome, log_tail, now)


@transaction.atomic
def take_back(*, run_id: int, outcome: Outcome, directory: str, now: datetime) -> bool:
    """End a run that was never launched here, as its program's verification found what ran elsewhere."""
    state = RunState.SUCCEEDED if outcome.succeeded else RunState.FAILED
    told: dict[str, Any] = {
        "reason": outcome.reason,
        "message": outcome.message,
        "directory": directory,
        "finished_at": now,
    }
    waiting = Run.objects.filter(pk=run_id)
    if not any(_move(waiting, left, state, now, **told) for left in (RunState.PLANNED, RunState.QUEUED)):
        return False
    _tell_dependents(run_id, state, now)
    return True


@transaction.atomic
def request_cancel(*, runs: Iterable[Run], by: str, now: datetime) -> list[int]:
    """Cancel what has not started; returns the ids of the running runs, whose jobs have to be ended."""
    ids = [run.pk for run in runs]
    chosen = Run.objects.filter(pk__in=ids)
    chosen.unfinished().filter(cancel_requested_at__isnull=True).update(
        cancel_requested_at=now, cancel_requested_by=by
    )
    told: dict[str, Any] = {
        "reason": FinishReason.CANCELLED_BY_USER,
        "message": f"Cancelled by {by}.",
        "finished_at": now,
    }
    cancelled = list(
        chosen.filter(state__in=[RunState.PLANNED, RunState.QUEUED]).values_list("pk", flat=True)
    )
    for state in (RunState.PLANNED, RunState.QUEUED):
        _move(chosen, state, RunState.CANCELLED, now, **told)
    _cancel_dependents(cancelled, now)
    return list(chosen.filter(state=RunState.RUNNING).values_list("pk", flat=True))


def _end(run_id: int, job_id: int, state: RunState, outcome: Outcome, log_tail: str, now: datetime) -> bool:
    moved = _move(
        Run.objects.filter(pk=run_id, fencing_token=job_id),
        RunState.RUNNING,
        state,
        now,
        job_of={run_id: job_id},
        reason=outcome.reason,
        message=outcome.message,
        log_tail=log_tail,
        finished_at=now,
    )
    if not moved:
        return False
    _tell_dependents(run_id, state, now)
    return True


def _tell_dependents(run_id: int, state: RunState, now: datetime) -> None:
    if state is RunState.SUCCEEDED:
        _make_ready(Run.objects.filter(depends_on=run_id), now)
    else:
        _cancel_dependents([run_id], now)


def _make_ready(runs: RunQuerySet, now: datetime) -> None:
    """Give them their turn."""
    waiting = runs.filter(ready_at__isnull=True)
    for priority in set(waiting.values_list("priority", flat=True)):
        waiting.filter(priority=priority).update(
            ready_at=now, turn_at=turn_of(ready_at=now, priority=priority)
        )


def _retry(run_id: int, job_id: int, reason: FinishReason, around: Circumstances) -> Retry | None:
    """Under the run's lock, so that a request to cancel it is either before or after."""
    if REASONS[reason].again is Again.NEVER:
        return None
    run = Run.objects.select_for_update().filter(pk=run_id, fencing_token=job_id).first()
    if run is None or run.cancel_requested_at:
        return None
    before = run.events.filter(state=RunState.QUEUED, reason=reason, at__gte=run.queued_at or run.started_at)
    launched = Launched(
        launches_count=run.launches_count,
        again_before=before.count(),
        device_memory_mib=run.device_memory_mib,
        engine_crashes_count=run.engine_crashes_count,
        has_epochs=run.kind == RunKind.FINETUNE and run.spec.get("epochs", 1) > 1,
    )
    return retry(reason=reason, run=launched, around=around)


def _requeue(run_id: int, job_id: int, outcome: Outcome, again: Retry, now: datetime) -> bool:
    moved = _move(
        Run.objects.filter(pk=run_id, fencing_token=job_id),
        RunState.RUNNING,
        RunState.QUEUED,
        now,
        job_of={run_id: job_id},
        reason=outcome.reason,
        message=f"{outcome.message.rstrip('.')}. {again.told}",
        fencing_token=None,
        started_at=None,
        **again.changes,
    )
    return bool(moved)


def _is_lost_too_often(run_id: int, reason: FinishReason) -> bool:
    runs = Run.objects.filter(pk=run_id, cancel_requested_at__isnull=True)
    return REASONS[reason].again is Again.AFTER_A_LOSS and runs.exists()


def _cancelled(run_id: int, outcome: Outcome) -> Outcome:
    by = Run.objects.values_list("cancel_requested_by", flat=True).get(pk=run_id)
    return replace(outcome, message=f"Cancelled by {by}.") if by else outcome


def _crash_loop(outcome: Outcome) -> Outcome:
    last = f"The last time: {outcome.message}"
    return Outcome(
        succeeded=False,
        reason=FinishReason.CRASH_LOOP,
        message=f"{REASONS[FinishReason.CRASH_LOOP].sentence} {last}",
    )


def _cancel_dependents(run_ids: list[int], now: datetime) -> None:
    waiting = Run.objects.filter(depends_on__in=run_ids)
    sentence = REASONS[FinishReason.DEPENDENCY_FAILED].sentence
    told: dict[str, Any] = {"reason": FinishReason.DEPENDENCY_FAILED, "message": sentence, "finished_at": now}
    dependents = list(
        waiting.filter(state__in=[RunState.PLANNED, RunState.QUEUED]).values_list("pk", flat=True)
    )
    if not dependents:
        return
    for state in (RunState.PLANNED, RunState.QUEUED):
        _move(waiting, state, RunState.CANCELLED, now, **told)
    _cancel_dependents(dependents, now)


def _move(
    runs: RunQuerySet,
    leaving: RunState,
    entering: RunState,
    now: datetime,
    *,
    job_of: Mapping[int, int] | None = None,
    **values: Any,
) -> int:
    """The guarded update, and the events of the runs that it moved, each with the job by whose word it moved."""
    if entering not in ALLOWED[leaving]:
        raise ValueError(f"A run cannot go from {leaving} to {entering}; see experiments.states.ALLOWED.")
    with transaction.atomic(savepoint=False):  # nothing of what it belongs to stays without it
        ids = list(runs.filter(state=leaving).select_for_update().values_list("pk", flat=True))
        return _enter(ids, leaving, entering, values, job_of or {}, now)


def _enter(
    locked: Collection[int],
    leaving: RunState,
    entering: RunState,
    values: Mapping[str, Any],
    job_of: Mapping[int, int],
    now: datetime,
) -> int:
    """Move runs that are locked, and record it."""
    moved = Run.objects.filter(pk__in=locked, state=leaving).update(state=entering, **values)
    _record(locked, entering, values, job_of, now)
    return moved


def _started(job_of: Mapping[int, int]) -> list[int]:
    """Those that have the token of their job."""
    tokens = Run.objects.filter(pk__in=job_of).values_list("pk", "fencing_token")
    return [run_id for run_id, token in tokens if token == job_of[run_id]]


def _record(
    moved: Iterable[int],
    entering: RunState,
    values: Mapping[str, Any],
    job_of: Mapping[int, int],
    now: datetime,
) -> None:
    RunEvent.objects.bulk_create(
        RunEvent(
            run_id=run_id,
            at=now,
            state=entering,
            reason=values.get("reason", ""),
            message=values.get("message", ""),
            job_id=job_of.get(run_id),
        )
        for run_id in moved
    )
