"""Where runs go: nodes, their devices, and the jobs that hold them."""

from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from experiments.models import Experiment, Run
from experiments.models.pausing import Pausable
from experiments.states import OPEN_JOB_STATES, JobState

AWAY_AFTER_SECONDS = 30  # without a renewal a node is given no more jobs; what it has stays its own


class SessionState(models.TextChoices):
    NEVER = "never", "no worker yet"
    LIVE = "live", "live"
    AWAY = "away", "away"
    LOST = "lost", "lost"


def _is_renewed() -> Q:
    """In time, by the database's clock, which is the same for all nodes."""
    seconds = min(AWAY_AFTER_SECONDS, settings.NODE_LOST_AFTER_SECONDS)
    return Q(session_renewed_at__gt=Now() - timedelta(seconds=seconds))


class NodeQuerySet(models.QuerySet["Node"]):
    def live(self) -> "NodeQuerySet":
        """Those that may be given jobs: renewed in time, and with nothing to prove after they were lost."""
        return self.filter(_is_renewed(), session_lost_at__isnull=True)

    def not_there(self) -> "NodeQuerySet":
        """Those whose agent was there and is not, or has still to prove what its absence left."""
        had_an_agent = self.filter(session_renewed_at__isnull=False)
        return had_an_agent.filter(Q(session_lost_at__isnull=False) | ~_is_renewed())

    def with_session_state(self) -> "NodeQuerySet":
        """Each with its `session_state`, one of SessionState."""
        return self.annotate(
            session_state=Case(
                When(session_renewed_at__isnull=True, then=Value(SessionState.NEVER)),
                When(session_lost_at__isnull=False, then=Value(SessionState.LOST)),
                When(_is_renewed(), then=Value(SessionState.LIVE)),
                default=Value(SessionState.AWAY),
                output_field=models.CharField(),
            )
        )


class Node(models.Model):
    """A machine that offers devices. Its agent renews the session; the database's clock judges it."""

    objects = NodeQuerySet.as_manager()

    name = models.CharField(max_length=100, unique=True)
    is_simulated = models.BooleanField(default=False)
    pool = models.CharField(max_length=100, blank=True, help_text="Takes the runs that ask for this pool.")
    session_epoch = models.PositiveIntegerField(default=0, help_text="Counts the agents that ran here.")
    boot_id = models.CharField(max_length=64, blank=True)
    session_renewed_at = models.DateTimeField(null=True)
    session_expires_at = models.DateTimeField(
        null=True, help_text="When other nodes may take its runs, unless it is renewed before."
    )
    session_stops_jobs = models.BooleanField(
        default=False, help_text="Its jobs stop before the session expires, since there are other nodes."
    )
    session_lost_at = models.DateTimeField(
        null=True,
        help_text="When its runs were taken; until its agent has proven that nothing of them lives.",
    )
    session_place = models.CharField(max_length=1000, blank=True, help_text="Host and home of its worker.")
    session_control = models.CharField(
        max_length=32, blank=True, help_text="The id of its control folder, by which jobs are adopted."
    )
    host_memory_mib = models.PositiveIntegerField(default=0)
    cpu_threads = models.PositiveIntegerField(default=0)
    allocated_host_memory_mib = models.PositiveIntegerField(default=0)
    allocated_cpu_threads = models.PositiveIntegerField(default=0)
    is_draining = models.BooleanField(default=False, help_text="Takes no new jobs.")
    drain_message = models.TextField(blank=True, help_text="Who drained it, and why.")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(allocated_host_memory_mib__lte=F("host_memory_mib")),
                name="node_memory_not_over_given",
            ),
            models.CheckConstraint(
                condition=Q(allocated_cpu_threads__lte=F("cpu_threads")), name="node_threads_not_over_given"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Device(models.Model):
    class Kind(models.TextChoices):
        GPU = "gpu"
        CPU = "cpu"
        SIMULATED = "simulated"

    class State(models.TextChoices):
        AVAILABLE = "AVAILABLE"
        DRAINED = "DRAINED"
        QUARANTINED = "QUARANTINED"
        GONE = "GONE"

    node = models.ForeignKey(Node, models.CASCADE, related_name="devices")
    index = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    uuid = models.CharField(max_length=100, unique=True, help_text="NVML's UUID, or node/kind/index.")
    model_name = models.CharField(max_length=200, blank=True)
    memory_mib = models.PositiveIntegerField()
    allocated_mib = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=12, choices=State, default=State.AVAILABLE)
    state_message = models.TextField(blank=True)
    withheld_because = models.TextField(
        blank=True,
        help_text="Of a device that is gone: why it took no jobs before, and will not when it is back.",
    )
    foreign_mib = models.PositiveIntegerField(
        default=0, help_text="Of its memory, what programs use that are not this lab's jobs."
    )
    foreign_use = models.TextField(blank=True, help_text="Whose programs those are.")
    utilisation_percent = models.PositiveSmallIntegerField(null=True, help_text="When it was last looked at.")
    uncorrected_errors = models.PositiveBigIntegerField(
        default=0, help_text="Of its memory: as many as it has been drained for."
    )

    class Meta:
        ordering = ["node", "index"]
        constraints = [
            models.UniqueConstraint(
                fields=["node", "index"], condition=~Q(state="GONE"), name="device_index_unique_on_node"
            ),
            models.CheckConstraint(
                condition=Q(allocated_mib__lte=F("memory_mib")), name="device_not_over_given"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.place} (simulated)" if self.kind == self.Kind.SIMULATED else self.place

    @property
    def place(self) -> str:
        return f"{self.node}:{self.index}"

    @property
    def free_mib(self) -> int:
        """What is neither given to a job nor used by others."""
        return max(0, self.memory_mib - self.allocated_mib - self.foreign_mib)

    @property
    def queue_name(self) -> str:
        return f"gpu.{self.node.name}.{self.index}"


class Reading(models.Model):
    """What was measured of a GPU at a moment; a figure that its driver does not tell is null."""

    device = models.ForeignKey(Device, models.CASCADE, related_name="readings")
    at = models.DateTimeField()
    keep_until = models.DateTimeField(db_index=True)
    used_mib = models.PositiveIntegerField()
    foreign_mib = models.PositiveIntegerField()
    utilisation_percent = models.PositiveSmallIntegerField(null=True)
    temperature_celsius = models.SmallIntegerField(null=True)
    power_watts = models.FloatField(null=True)

    class Meta:
        ordering = ["at"]
        indexes = [models.Index(fields=["device", "at"], name="reading_of_device")]

    def __str__(self) -> str:
        return f"{self.device} at {self.at}"


class HostReading(models.Model):
    """What was measured of a machine at a moment."""

    node = models.ForeignKey(Node, models.CASCADE, related_name="readings")
    at = models.DateTimeField()
    keep_until = models.DateTimeField(db_index=True)
    used_mib = models.PositiveIntegerField(help_text="Of host memory, what could not be had at once.")
    load = models.FloatField(help_text="The mean of the last minute: how many threads ran or wanted to.")

    class Meta:
        ordering = ["at"]
        indexes = [models.Index(fields=["node", "at"], name="reading_of_node")]

    def __str__(self) -> str:
        return f"{self.node} at {self.at}"


class JobQuerySet(models.QuerySet["Job"]):
    def with_their_place(self) -> "JobQuerySet":
        """With node and experiment, but not what an experiment's document and plan say, which may be long."""
        long = ("document", "notes", "questions", "totals")
        return self.select_related("experiment", "node").defer(*(f"experiment__{name}" for name in long))


class Job(models.Model):
    """One launch: one process tree on devices. Its id is the fencing token of the runs it carries."""

    objects = JobQuerySet.as_manager()

    node = models.ForeignKey(Node, models.PROTECT, related_name="jobs")
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="jobs")
    title = models.CharField(
        max_length=250, help_text="The name of its run, or of the engine that its runs share."
    )
    state = models.CharField(
        max_length=8, choices=[(s.value, s.value) for s in JobState], default=JobState.PLACED
    )
    limit_seconds = models.PositiveIntegerField()
    host_memory_mib = models.PositiveIntegerField(default=0)
    cpu_threads = models.PositiveIntegerField(default=0)
    directory = models.CharField(max_length=1000, blank=True)
    cancel_requested_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    exit_signal = models.IntegerField(null=True)
    ending = models.CharField(max_length=20, blank=True, help_text="How its process tree ended.")
    message = models.TextField(blank=True)
    peak_rss_mib = models.PositiveIntegerField(null=True)
    cpu_seconds = models.FloatField(null=True)
    placed_at = models.DateTimeField()
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["node", "state"], name="job_of_node")]

    def __str__(self) -> str:
        return f"{self.pk} {self.title}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_JOB_STATES

    @property
    def log_path(self) -> Path | None:
        return Path(self.directory) / "output.log" if self.directory else None


class Launch(models.Model):
    """A run that is carried by a job."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="launches")
    run = models.ForeignKey(Run, models.CASCADE, related_name="launches")
    is_open = models.BooleanField(default=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run"], condition=Q(is_open=True), name="one_open_job_a_run"),
            models.UniqueConstraint(fields=["job", "run"], name="run_once_in_a_job"),
        ]

    def __str__(self) -> str:
        return f"{self.run} in job {self.job_id}"


class Lease(models.Model):
    """A device, or a share of one, that a job holds until its whole tree is gone."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="leases")
    device = models.ForeignKey(Device, models.PROTECT, related_name="leases")
    memory_mib = models.PositiveIntegerField()
    released_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "device"], name="device_once_in_a_job")]

    def __str__(self) -> str:
        return f"{self.device} for job {self.job_id}"


class TickRequestQuerySet(models.QuerySet["TickRequest"]):
    def halted(self) -> "TickRequestQuerySet":
        """Where nothing is placed: labmgr is being stopped, or a person paused the queue."""
        return self.filter(Q(is_stopping=True) | Q(paused_at__isnull=False))


class TickRequest(Pausable):
    """One row. Whatever frees or needs something increments `requested`; the ticker catches up.

    Here, too, is whether the whole queue is paused. A person's pause outlasts a restart, that of a stop does not.
    """

    objects = TickRequestQuerySet.as_manager()

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    requested = models.BigIntegerField(default=0)
    served = models.BigIntegerField(default=0)
    ticked_at = models.DateTimeField(null=True)
    is_stopping = models.BooleanField(default=False, help_text="Nothing is placed: labmgr is being stopped.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_tick_request_row")]

    def __str__(self) -> str:
        return f"{self.served} of {self.requested}"


class ControlPlane(models.Model):
    """One row: what the control plane knows of itself, by the database's clock."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    run_root = models.CharField(max_length=1000, blank=True)
    run_root_mark = models.CharField(max_length=64, blank=True, help_text="What the marker file there holds.")
    reaper_passed_at = models.DateTimeField(null=True)
    reaper_waits_until = models.DateTimeField(null=True, help_text="Nothing is taken from any node before.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_control_plane_row")]

    def __str__(self) -> str:
        return self.run_root
