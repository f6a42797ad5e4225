"""What the agent does with the jobs of its node: claim, launch, look at, end. Each step may be repeated harmlessly."""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, Q

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
from scheduler.models import Job, Launch, Node
from scheduler.paths import fence_file
from scheduler.placed import Charge, charge, charges, program_of
from scheduler.programs.base import Command, PlacedJob, Surroundings, Verdict, failed

log = logging.getLogger(__name__)

LOG_TAIL_LINES = 40
_OF_RUN_AT_ITS_END = (
    "run__spec",
    "run__fencing_token",
    "run__cancel_requested_at",
    "run__cell__base_model__config",
)
_AWAY = (OperationalError, InterfaceError)  # of the database: nothing was refused, and all is tried again


def surroundings() -> Surroundings:
    return Surroundings(
        ml_python=settings.ML_PYTHON, cache_root=settings.CACHE_ROOT, grace_seconds=settings.GRACE_SECONDS
    )


def claim(*, node: Node, now: datetime) -> list[Charge]:
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
    return charges(jobs)


def launch_all(*, claimed: Sequence[Charge], launcher: Launcher, now: datetime) -> set[int]:
    """CLAIMED -> RUNNING; returns the ids of those that run. One that cannot be prepared or started ends with the reason."""
    prepared = {each.job.pk: _prepare(each) for each in claimed}
    refused = launcher.submit_all([each for each in prepared.values() if isinstance(each, LaunchRequest)])
    failures = {job_id: each for job_id, each in prepared.items() if isinstance(each, Verdict)}
    failures |= {job_id: failed(FinishReason.LAUNCH_FAILED, f"{why}") for job_id, why in refused.items()}
    launched = [each for each in claimed if each.job.pk not in failures]
    _start(launched, now)
    for each in claimed:
        if each.job.pk in failures:
            _end_unlaunched(each, failures[each.job.pk], now)
    return {each.job.pk for each in launched}


def end_all(*, records: Sequence[ExitRecord], known: Mapping[int, Charge], now: datetime) -> set[int]:
    """Verify what ended jobs left behind, keep what was measured, and end their rows.

    `known` has what the agent knows of jobs, by their ids; the others are read. Returns the ids of jobs whose end the
    database refused, which keeps none of the others from ending. Raises OperationalError or InterfaceError if it is away.
    """
    by_job = {record.job_id: record for record in records}
    there = _in_charge_of(by_job, known)
    runs = _carried_still(there)
    jobs, placed = [each.job for each in there], [each.carrying(runs) for each in there]
    by_job |= {
        job.pk: launching.with_left_behind(job, by_job[job.pk])
        for job, each in zip(jobs, placed, strict=True)
        if each.on_gpu
    }
    verdicts = [_verified(each, by_job[each.job_id]) if each.runs else {} for each in placed]
    gathered = measuring.gather(jobs=jobs, placed=placed, verdicts=verdicts, runs=runs, now=now)
    ended = [_ended(j, p, v, by_job[j.pk]) for j, p, v in zip(jobs, placed, verdicts, strict=True)]
    try:
        _end_batch(ended, gathered, now)
    except _AWAY:
        raise
    except (DatabaseError, ValueError):
        return {end.job.pk for end in ended if not _is_ended(end, gathered, now)}
    return set()


@transaction.atomic
def _end_batch(ended: Sequence[EndedJob], gathered: Gathered, now: datetime) -> None:
    """What was measured is written last, since runs are locked last (see scheduler.ending)."""
    ending.end_jobs(ended=ended, now=now)
    gathered.keep(job_ids=[end.job.pk for end in ended], now=now)


def _is_ended(end: EndedJob, gathered: Gathered, now: datetime) -> bool:
    """By itself, after it was refused with others."""
    try:
        _end_batch([end], gathered.of(end.outcomes), now)
    except _AWAY:
        raise
    except (DatabaseError, ValueError) as error:
        log.warning("the end of job %s was refused: %s", end.job.pk, error)
        return False
    return True


def settle(*, job: Job, now: datetime) -> None:
    """End the runs of a shared engine whose own results are durable, while the engine goes on."""
    engine = charge(job)
    if not engine.runs:
        return
    verdicts = _settled(engine.placed)
    if not verdicts:
        return
    runs = _carried_still([engine])
    gathered = measuring.gather(jobs=[job], placed=[engine.placed], verdicts=[verdicts], runs=runs, now=now)
    tail = file_tail(engine.placed.paths.log, LOG_TAIL_LINES)
    with transaction.atomic():
        for run_id, verdict in verdicts.items():
            ending.finish_run(job=job, run_id=run_id, outcome=verdict.outcome, log_tail=tail, now=now)
        gathered.keep(job_ids=[job.pk], now=now)


def cancel_requested(*, node: Node, launcher: Launcher, now: datetime) -> None:
    """End the trees of jobs that were asked to end, or that have no live run left; leave runs out of shared engines."""
    cancelled = Launch.objects.filter(
        job=OuterRef("pk"), is_open=True, run__cancel_requested_at__isnull=False
    )
    running = Job.objects.filter(node=node, state=JobState.RUNNING).with_their_place()
    for job in running.filter(Q(cancel_requested_at__isnull=False) | Exists(cancelled)):
        if job.cancel_requested_at or _has_no_run_left(job, now):
            Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(state=JobState.ENDING)
            launcher.cancel(job_id=job.pk)


def open_jobs(node: Node) -> list[Charge]:
    return charges(list(Job.objects.filter(node=node, state__in=OPEN_JOB_STATES).with_their_place()))


def _in_charge_of(job_ids: Collection[int], known: Mapping[int, Charge]) -> list[Charge]:
    unknown = [job_id for job_id in job_ids if job_id not in known]
    read = charges(list(Job.objects.filter(pk__in=unknown).with_their_place())) if unknown else []
    return [*(known[job_id] for job_id in job_ids if job_id in known), *read]


def _carried_still(there: Sequence[Charge]) -> dict[int, Run]:
    """The runs that have not ended, as they are now, with what their measurements are kept under."""
    launches = Launch.objects.filter(job__in=[each.job.pk for each in there], is_open=True)
    with_models = launches.select_related("run__cell__base_model").only(*_OF_RUN_AT_ITS_END).order_by()
    return {launch.run_id: launch.run for launch in with_models}


def _start(launched: Sequence[Charge], now: datetime) -> None:
    ids = [each.job.pk for each in launched]
    with transaction.atomic():
        Job.objects.filter(pk__in=ids, state=JobState.CLAIMED).update(state=JobState.RUNNING, started_at=now)
        runs = Run.objects.filter(pk__in=[run.pk for each in launched for run in each.runs])
        runs.filter(fencing_token__in=ids).update(started_at=now)
    for each in launched:
        each.job.state, each.job.started_at = JobState.RUNNING, now


def _has_no_run_left(job: Job, now: datetime) -> bool:
    """Else the engine is asked to leave out those that were cancelled."""
    placed = charge(job).placed
    if all(run.cancelled for run in placed.runs):
        Job.objects.filter(pk=job.pk, cancel_requested_at__isnull=True).update(cancel_requested_at=now)
        return True
    placed.paths.cancelled.mkdir(parents=True, exist_ok=True)
    for run in placed.runs:
        if run.cancelled:
            (placed.paths.cancelled / str(run.run_id)).touch()
    return False


def _prepare(claimed: Charge) -> LaunchRequest | Verdict:
    """What to launch, with its files written; or why it cannot be started."""
    job, placed = claimed.job, claimed.placed
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


def _end_unlaunched(claimed: Charge, verdict: Verdict, now: datetime) -> None:
    outcomes = {run.pk: verdict.outcome for run in claimed.runs}
    ending.end_job(job=claimed.job, record=None, outcomes=outcomes, log_tail="", now=now)


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
