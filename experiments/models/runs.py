"""The run table: it is the queue, too. Only `experiments.lifecycle` writes a run's state."""

from pathlib import Path
from typing import Any

from django.db import models
from django.db.models import Q

from experiments.specs import Resources, RunSpec, spec_from_json
from experiments.states import TERMINAL, FinishReason, RunKind, RunState


class RunQuerySet(models.QuerySet["Run"]):
    def of_experiment(self, name: str) -> "RunQuerySet":
        return self.filter(cell__experiment__name=name)

    def queued(self) -> "RunQuerySet":
        return self.filter(state=RunState.QUEUED)

    def paused(self) -> "RunQuerySet":
        return self.filter(cell__experiment__paused_at__isnull=False)

    def unpaused(self) -> "RunQuerySet":
        return self.filter(cell__experiment__paused_at__isnull=True)

    def unfinished(self) -> "RunQuerySet":
        return self.exclude(state__in=TERMINAL)

    def current(self) -> "RunQuerySet":
        """Without those that were run again: of every run, its last attempt."""
        return self.filter(superseded_by__isnull=True)


_Runs = models.Manager.from_queryset(RunQuerySet)


class CurrentRuns(_Runs["Run"]):
    """What an experiment has now: what is counted, queued and summarised."""

    def get_queryset(self) -> RunQuerySet:
        return RunQuerySet(self.model, using=self._db).current()


class Run(models.Model):
    cell = models.ForeignKey("experiments.Cell", models.CASCADE, related_name="runs")
    kind = models.CharField(max_length=20, choices=[(k.value, k.value) for k in RunKind])
    name = models.CharField(max_length=250)
    depends_on = models.ForeignKey("self", models.RESTRICT, null=True, related_name="dependents")
    attempt = models.PositiveIntegerField(default=1, help_text="More than 1 where it was run again.")
    superseded_by = models.ForeignKey(
        "self",
        models.RESTRICT,
        null=True,
        related_name="supersedes",
        db_index=False,  # SQLite would take it for the queue, whose runs all have none; see the constraint
        help_text="The next attempt, where it was run again.",
    )
    spec = models.JSONField(help_text="What it does; the dataclass of its kind in experiments.specs.")
    engine_key = models.CharField(
        max_length=64, blank=True, help_text="Runs with the same key can share an engine."
    )

    devices = models.PositiveIntegerField(default=1)
    device_memory_mib = models.PositiveIntegerField(
        null=True, help_text="Of each device; empty takes whole devices."
    )
    host_memory_mib = models.PositiveIntegerField(default=0)
    cpu_threads = models.PositiveIntegerField(default=1)
    pool = models.CharField(max_length=100, blank=True, help_text="The nodes that it may run on.")
    limit_seconds = models.PositiveIntegerField()
    priority = models.IntegerField(default=0)

    state = models.CharField(
        max_length=12, choices=[(s.value, s.value) for s in RunState], default=RunState.PLANNED
    )
    reason = models.CharField(max_length=24, blank=True, choices=[(r.value, r.value) for r in FinishReason])
    message = models.TextField(blank=True)
    log_tail = models.TextField(
        blank=True, help_text="The last lines of the log of a run that did not succeed."
    )
    launches_count = models.PositiveIntegerField(default=0)
    fencing_token = models.BigIntegerField(
        null=True, help_text="The job whose result is accepted; no other's is."
    )
    avoided_node = models.CharField(max_length=100, blank=True, help_text="The node that lost it last.")
    engine_crashes_count = models.PositiveSmallIntegerField(
        default=0, help_text="Shared engines that broke down on it; after two it has one for itself."
    )
    directory = models.CharField(max_length=1000, blank=True, help_text="The directory of its last job.")
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)

    queued_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True, help_text="When the run that it builds on had succeeded.")
    turn_at = models.DateTimeField(
        null=True, help_text="Sorts the queue: when it was ready, less an hour for each point of priority."
    )
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    harvested_at = models.DateTimeField(null=True)

    objects = CurrentRuns()
    every = _Runs()  # earlier attempts, too: for history, and for whatever names a run by its id

    class Meta:
        base_manager_name = "every"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "turn_at", "id"], name="run_queue"),
            models.Index(fields=["state", "finished_at"], name="run_recent"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["cell", "name", "attempt"], name="run_attempt_unique_in_cell"),
            models.UniqueConstraint(
                fields=["superseded_by"],
                condition=Q(superseded_by__isnull=False),
                name="run_supersedes_one",
            ),
            models.CheckConstraint(
                condition=Q(superseded_by__isnull=True)
                | Q(state__in=sorted(state.value for state in TERMINAL)),
                name="superseded_run_has_ended",
            ),
            models.CheckConstraint(condition=Q(devices__gte=1), name="run_needs_a_device"),
            models.CheckConstraint(condition=Q(limit_seconds__gte=1), name="run_has_a_limit"),
            models.CheckConstraint(
                condition=~Q(state=RunState.RUNNING) | Q(fencing_token__isnull=False),
                name="running_run_has_a_job",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_finished(self) -> bool:
        return self.state in TERMINAL

    @property
    def parsed_spec(self) -> RunSpec:
        spec: dict[str, Any] = self.spec
        return spec_from_json(spec)

    @property
    def resources(self) -> Resources:
        return Resources(
            devices=self.devices,
            device_memory_mib=self.device_memory_mib,
            host_memory_mib=self.host_memory_mib,
            cpu_threads=self.cpu_threads,
            pool=self.pool,
            limit_seconds=self.limit_seconds,
        )

    @property
    def log_path(self) -> Path | None:
        return Path(self.directory) / "output.log" if self.directory else None


class RunEvent(models.Model):
    """A transition of a run, kept for the people who ask what happened."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    at = models.DateTimeField()
    state = models.CharField(max_length=12)
    reason = models.CharField(max_length=24, blank=True)
    message = models.TextField(blank=True)
    job_id = models.BigIntegerField(null=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.state} {self.reason}".rstrip()
