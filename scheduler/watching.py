"""What the agent does with the jobs of its node: claim, launch, look at, end. Each step may be repeated harmlessly."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, transaction

from experiments.models import Experiment, Run
from experiments.queries import file_tail
from experiments.specs import SimulatedSpec
from experiments.states import OPEN_JOB_STATES, FinishReason, JobState
from experiments.torchtune_builders import UnsupportedModel
from scheduler import ending, measuring
from scheduler.ending import EndedJob
from scheduler.inventory import launching
from scheduler.launchers.base import ExitRecord, Launcher, LaunchRequest
from scheduler.measuring import Gathered
from scheduler.models import Job, Node
from scheduler.paths import fence_file
from scheduler.placed import placed_job, placed_jobs, program_of
from scheduler.programs.base import Command, PlacedJob, Surroundings, Verdict, failed

log = logging.getLogger(__name__)

LOG_TAIL_LINES = 40


def surroundings() -> Surroundings:
    return Surroundings(
        ml_python=settings.ML_PYTHON, cache_root=settings.CACHE_ROOT, grace_seconds=settings.GRACE_SECONDS
    )


def claim(*, node: Node, now: datetime) -> list[Job]:
    """PLACED -> CLAIMED for all that was placed here."""
    placed = Job.objects.filter(node=node, state=JobState.PLACED)
    if not placed.exists():  # no transaction for nothing: SQLite has one writer
        return []
    with transaction.atomic():
        locked = placed.order_by("pk").select_for_update(of=("self",))
        jobs = list(locked.with_their_place())
        Job.objects.filter(pk__in=[job.pk for job in jobs]).update(state=JobState.CLAIMED, claimed_at=now)
    for job in jobs:
        job.state, job.claimed_at = JobState.CLAIMED, now
    return jobs


def launch_all(*, jobs: Sequence[Job], launcher: Launcher, now: datetime) -> set[int]:
    """CLAIMED -> RUNNING; returns the ids of those that run. One that cannot be prepared or started ends with the reason."""
    pairs = list(zip(jobs, placed_jobs(jobs), strict=True))
    prepared = {job.pk: _prepare(job, placed) for job, placed in pairs}
    refused = launcher.submit_all([each for each in prepared.values() if isinstance(each, LaunchRequest)])
    failures = {job_id: each for job_id, each in prepared.items() if isinstance(each, Verdict)}
    failures |= {job_id: failed(FinishReason.LAUNCH_FAILED, f"{why}") for job_id, why in refused.items()}
    launched = [job.pk for job in jobs if job.pk not in failures]
    runs = [run.run_id for job, placed in pairs if job.pk not in failures for run in placed.runs]
    with transaction.atomic():
        claimed = Job.objects.filter(pk__in=launched, state=JobState.CLAIMED)
        claimed.update(state=JobState.RUNNING, started_at=now)
        Run.objects.filter(pk__in=runs, fencing_token__in=launched).update(started_at=now)
    for job, placed in pairs:
        if job.pk in failures:
            _end_unlaunched(job, placed, failures[job.pk], now)
    return set(launched)


def end_all(*, records: Sequence[ExitRecord], now: datetime) -> None:
    """Verify what ended jobs left behind, keep what was measured, and end their rows.

    A job whose end the database refuses does not keep the others from ending.
    """
    by_job = {record.job_id: record for record in records}
    jobs = list(Job.objects.filter(pk__in=by_job).with_their_place())
    placed = placed_jobs(jobs)
    by_job |= {
        job.pk: launching.with_left_behind(job, by_job[job.pk])
        for job, each in zip(jobs, placed, strict=True)
        if each.on_gpu
    }
    verdicts = [_verified(each, by_job[each.job_id]) if each.runs else {} for each in placed]
    gathered = measuring.gather(jobs=jobs, placed=placed, verdicts=verdicts, now=now)
    ended = [_ended(j, p, v, by_job[j.pk]) for j, p, v in zip(jobs, placed, verdicts, strict=True)]
    try:
        _end_batch(ended, gathered, now)
    except (DatabaseError, ValueError):
        _end_one_by_one(ended, gathered, now)


@transaction.atomic
def _end_batch(ended: Sequence[EndedJob], gathered: Gathered, now: datetime) -> None:
    """What was measured is written last, since runs are locked last (see scheduler.ending)."""
    ending.end_jobs(ended=ended, now=now)
    gathered.keep(job_ids=[end.job.pk for end in ended], now=now)


def _end_one_by_one(ended: Sequence[EndedJob], gathered: Gathered, now: datetime) -> None:
    """Raises the last refusal once all have been tried."""
    refused: Exception | None = None
    for one in ended:
        try:
            _end_batch([one], gathered.of(one.outcomes), now)
        except (DatabaseError, ValueError) as error:
            log.warning("the end of job %s was refused: %s", one.job.pk, error)
            refused = error
    if refused:
        raise refused


def settle(*, job: Job, now: datetime) -> None:
    """End the runs of a shared engine whose own results are durable, while the engine goes on."""
    placed = placed_job(job)
    if len(placed.runs) < 1:
        return
    verdicts = _settled(placed)
    if not verdicts:
        return
    gathered = measuring.gather(jobs=[job], placed=[placed], verdicts=[verdicts], now=now)
    tail = file_tail(placed.paths.log, LOG_TAIL_LINES)
    with transaction.atomic():
        for run_id, verdict in verdicts.items():
            ending.finish_run(job=job, run_id=run_id, outcome=verdict.outcome, log_tail=tail, now=now)
        gathered.keep(job_ids=[job.pk], now=now)


def cancel_requested(*, node: Node, launcher: Launcher, now: datetime) -> None:
    """End the trees of jobs that were asked to end, or that have no live run left; leave runs out of shared engines."""
    jobs = Job.objects.filter(node=node, state=JobState.RUNNING).with_their_place()
    for job in jobs.filter(
        launches__is_open=True, launches__run__cancel_requested_at__isnull=False
    ).distinct():
        _cancel_runs(job, now)
    for job in Job.objects.filter(node=node, state=JobState.RUNNING, cancel_requested_at__isnull=False):
        Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(state=JobState.ENDING)
        launcher.cancel(job_id=job.pk)


def open_jobs(node: Node) -> list[Job]:
    return list(Job.objects.filter(node=node, state__in=OPEN_JOB_STATES).with_their_place())


def _cancel_runs(job: Job, now: datetime) -> None:
    placed = placed_job(job)
    if all(run.cancelled for run in placed.runs):
        Job.objects.filter(pk=job.pk, cancel_requested_at__isnull=True).update(cancel_requested_at=now)
        return
    placed.paths.cancelled.mkdir(parents=True, exist_ok=True)
    for run in placed.runs:
        if run.cancelled:
            (placed.paths.cancelled / str(run.run_id)).touch()


def _prepare(job: Job, placed: PlacedJob) -> LaunchRequest | Verdict:
    """What to launch, with its files written; or why it cannot be started."""
    if placed.on_gpu and (obstacle := launching.obstacle(job)):
        return failed(obstacle.reason, obstacle.message)
    try:
        command = program_of(placed).prepare(placed, surroundings())
        if command.has_files:
            _write_files(placed, command)
        return _request(job, placed, command)
    except Exception as error:  # a model's files may hold anything, and must not end the agent
        log.warning("job %s could not be launched: %s", job.pk, error)
        return failed(_launch_reason(error), f"{error}")


def _end_unlaunched(job: Job, placed: PlacedJob, verdict: Verdict, now: datetime) -> None:
    outcomes = {run.run_id: verdict.outcome for run in placed.runs}
    ending.end_job(job=job, record=None, outcomes=outcomes, log_tail="", now=now)


def _ended(job: Job, placed: PlacedJob, verdicts: Mapping[int, Verdict], record: ExitRecord) -> EndedJob:
    outcomes = {run_id: verdict.outcome for run_id, verdict in verdicts.items()}
    succeeded = all(outcome.succeeded for outcome in outcomes.values())
    tail = "" if succeeded else file_tail(placed.paths.log, LOG_TAIL_LINES)
    return EndedJob(job=job, record=record, outcomes=outcomes, log_tail=tail)


def _request(job: Job, placed: PlacedJob, command: Command) -> LaunchRequest:
    spec = placed.runs[0].spec
    return LaunchRequest(
        job_id=job.pk,
        argv=command.argv,
        env=command.env,
        cwd=placed.paths.directory,
        log_path=placed.paths.log,
        control_dir=placed.paths.control,
        limit_seconds=job.limit_seconds,
        grace_seconds=settings.GRACE_SECONDS,
        duration_seconds=spec.duration_seconds if isinstance(spec, SimulatedSpec) else None,
        fence_file=_fence_file(job),
    )


def _fence_file(job: Job) -> Path | None:
    """Only what another node may take is stopped here in time; what waits for this node goes on."""
    if job.experiment.on_node_lost != Experiment.OnNodeLost.REQUEUE:
        return None
    return fence_file(control_root=settings.CONTROL_ROOT, node=job.node.name)


def _write_files(placed: PlacedJob, command: Command) -> None:
    for directory in (placed.paths.directory, placed.paths.scratch, settings.CACHE_ROOT):
        directory.mkdir(parents=True, exist_ok=True)
    placed.paths.control.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, content in command.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if path in command.executables else 0o644)


def _verified(placed: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
    """What a job left may be anything; that it cannot be read ends its runs, not the agent."""
    try:
        return program_of(placed).verify(placed, record)
    except Exception as error:
        log.exception("what job %s left could not be read", placed.job_id)
        told = failed(FinishReason.RESULT_INCOMPLETE, f"What it left could not be read: {error!r}.")
        return {run.run_id: told for run in placed.runs}


def _settled(placed: PlacedJob) -> Mapping[int, Verdict]:
    try:
        return program_of(placed).settled(placed)
    except Exception:
        log.exception("what job %s has written so far could not be read", placed.job_id)
        return {}


def _launch_reason(error: Exception) -> FinishReason:
    if isinstance(error, UnsupportedModel | LookupError | ValueError | TypeError | AttributeError):
        return FinishReason.CONFIG_INVALID
    return FinishReason.MODEL_MISSING if isinstance(error, FileNotFoundError) else FinishReason.LAUNCH_FAILED
