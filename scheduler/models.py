"""Where runs go: nodes, their devices, and the jobs that hold them."""

from pathlib import Path

from django.db import models
from django.db.models import F, Q

from experiments.models import Experiment, Run
from experiments.states import OPEN_JOB_STATES, JobState


class Node(models.Model):
    """A machine that offers devices. Its agent renews the session; the database's clock judges it."""

    name = models.CharField(max_length=100, unique=True)
    is_simulated = models.BooleanField(default=False)
    pool = models.CharField(max_length=100, blank=True, help_text="Takes the runs that ask for this pool.")
    session_epoch = models.PositiveIntegerField(default=0, help_text="Counts the agents that ran here.")
    boot_id = models.CharField(max_length=64, blank=True)
    session_renewed_at = models.DateTimeField(null=True)
    host_memory_mib = models.PositiveIntegerField(default=0)
    cpu_threads = models.PositiveIntegerField(default=0)
    allocated_host_memory_mib = models.PositiveIntegerField(default=0)
    allocated_cpu_threads = models.PositiveIntegerField(default=0)
    is_draining = models.BooleanField(default=False, help_text="Takes no new jobs.")

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
        return f"{self.node}:{self.index}"

    @property
    def queue_name(self) -> str:
        return f"gpu.{self.node.name}.{self.index}"


class Job(models.Model):
    """One launch: one process tree on devices. Its id is the fencing token of the runs it carries."""

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


class TickRequest(models.Model):
    """One row. Whatever frees or needs something increments `requested`; the ticker catches up."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    requested = models.BigIntegerField(default=0)
    served = models.BigIntegerField(default=0)
    ticked_at = models.DateTimeField(null=True)
    is_paused = models.BooleanField(default=False, help_text="Nothing is placed: labmgr is being stopped.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_tick_request_row")]

    def __str__(self) -> str:
        return f"{self.served} of {self.requested}"
