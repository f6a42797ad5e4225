"""A question, and the cells that its plan lays out."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from experiments.models.pausing import Pausable
from experiments.states import CellType


class Experiment(Pausable):
    class OnNodeLost(models.TextChoices):
        WAIT = "wait"
        REQUEUE = "requeue"

    name = models.CharField(max_length=100, unique=True)
    question = models.TextField(blank=True)
    document = models.JSONField(help_text="The experiment document that the plan was made from.")
    notes = models.JSONField(default=list, help_text="Warnings and explanations that the plan gave.")
    questions = models.JSONField(default=list, help_text="What the document leaves unsaid and matters.")
    totals = models.JSONField(default=dict, help_text="What the whole plan takes, as it was shown.")
    estimated_at = models.DateTimeField(null=True, help_text="When it was last estimated from evidence.")
    probes_of = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        related_name="probes",
        help_text="The plan that these probes are for.",
    )
    max_parallel = models.PositiveIntegerField(default=2)
    max_parallel_is_auto = models.BooleanField(
        default=False, help_text="Ticks move it: up while devices idle, down when runs run out of memory."
    )
    window_changed_at = models.DateTimeField(null=True, help_text="When a tick moved it last.")
    window_halved_at = models.DateTimeField(
        null=True, help_text="Since when running out of memory counts against it."
    )
    priority = models.IntegerField(default=0)
    evaluation_hold_seconds = models.PositiveIntegerField(default=900)
    on_node_lost = models.CharField(max_length=10, choices=OnNodeLost, default=OnNodeLost.WAIT)
    open_jobs = models.PositiveIntegerField(default=0, help_text="Jobs that are placed and have not ended.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    planned_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-planned_at"]
        permissions = [
            ("approve_plan", "Can approve plans"),
            (
                "control_any_run",
                "Can cancel, pause and steer other people's experiments and runs, and the queue",
            ),
            ("run_commands", "Can plan runs of the lab's own commands"),
            ("run_own_recipes", "Can plan fine-tunes by the lab's own recipe files"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(max_parallel__gte=1), name="experiment_window_is_open"),
            models.CheckConstraint(condition=Q(open_jobs__gte=0), name="experiment_open_jobs_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_draft(self) -> bool:
        return self.approved_at is None


class Cell(models.Model):
    """One row of a plan."""

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="cells")
    index = models.PositiveIntegerField()
    name = models.CharField(max_length=200)
    type = models.CharField(max_length=20, choices=[(t.value, t.value) for t in CellType])
    levels = models.JSONField(default=dict, help_text="The level of each factor in this cell.")
    base_model = models.ForeignKey("experiments.BaseModel", models.PROTECT, null=True, related_name="cells")
    dataset = models.ForeignKey("experiments.Dataset", models.PROTECT, null=True, related_name="cells")
    seed = models.IntegerField(default=0)
    planned = models.JSONField(default=dict, help_text="Its row of the plan, as it was shown.")

    class Meta:
        ordering = ["experiment", "index"]
        constraints = [
            models.UniqueConstraint(F("experiment"), F("name"), name="cell_name_unique_in_experiment"),
        ]

    def __str__(self) -> str:
        return self.name


class PlanEntry(models.Model):
    """The log of an experiment: what was verified, found, computed, asked and decided, and when; steering, too."""

    class Kind(models.TextChoices):
        VERIFIED = "verified"
        FOUND = "found"
        COMPUTED = "computed"
        ASKED = "asked"
        DECIDED = "decided"

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="log")
    at = models.DateTimeField()
    kind = models.CharField(max_length=10, choices=Kind)
    text = models.TextField()
    by = models.CharField(max_length=150, blank=True, help_text="The person; empty for labmgr itself.")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "plan entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind}: {self.text}"


class Proposal(models.Model):
    """A change of the document that evidence speaks for. Nothing changes before a person accepts it."""

    class State(models.TextChoices):
        OPEN = "open"
        ACCEPTED = "accepted"
        DECLINED = "declined"

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="proposals")

    class Kind(models.TextChoices):
        CHANGE = "change"
        PROBE = "probe"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CHANGE)
    key = models.CharField(max_length=200, help_text="What it is about: batch_size/tiny-llama-s, probe/...")
    changes = models.JSONField(
        default=dict, help_text="Of a change: dotted paths of the document, and their new values."
    )
    cells = models.JSONField(default=list, help_text="The cells that it is about.")
    title = models.CharField(max_length=300)
    reason = models.TextField()
    observation_ids = models.JSONField(default=list)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "key"], name="one_proposal_about_a_thing"),
        ]

    def __str__(self) -> str:
        return self.title
