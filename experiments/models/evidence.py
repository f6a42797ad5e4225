"""What was learned: measured facts with their conditions, and what was fitted to them."""

from django.db import models

from experiments.figures import Grade


class Observation(models.Model):
    """One measured fact. Its conditions are columns, because estimates are fitted to them."""

    run = models.ForeignKey("experiments.Run", models.SET_NULL, null=True, related_name="observations")
    metric = models.CharField(max_length=60)
    value = models.FloatField()
    unit = models.CharField(max_length=20)
    is_bound = models.BooleanField(
        default=False, help_text="A bound on the quantity, not a measured value of it."
    )
    is_complete = models.BooleanField(
        default=True, help_text="All conditions are known; otherwise it is not used."
    )

    base_model = models.ForeignKey("experiments.BaseModel", models.SET_NULL, null=True, related_name="+")
    # The conditions: one column for each field of experiments.conditions.Conditions.
    model_name = models.CharField(max_length=200, blank=True)
    model_shape = models.CharField(max_length=120, blank=True)
    parameter_count = models.BigIntegerField(null=True)
    recipe = models.CharField(max_length=100, blank=True)
    precision = models.CharField(max_length=10, blank=True)
    lora_rank = models.PositiveIntegerField(null=True)
    lora_modules = models.CharField(max_length=200, blank=True)
    trainable_parameters = models.BigIntegerField(null=True)
    optimizer = models.CharField(max_length=60, blank=True)
    compiled = models.BooleanField(null=True)
    activation_checkpointing = models.BooleanField(null=True)
    activation_offloading = models.BooleanField(null=True)
    attention = models.CharField(max_length=20, blank=True)
    loss_chunks = models.PositiveIntegerField(null=True)
    rows = models.PositiveIntegerField(null=True)
    batch_size = models.PositiveIntegerField(null=True)
    gradient_accumulation_steps = models.PositiveIntegerField(null=True)
    max_seq_len = models.PositiveIntegerField(null=True)
    packed = models.BooleanField(null=True)
    epochs = models.PositiveIntegerField(null=True)
    max_steps_per_epoch = models.PositiveIntegerField(null=True)
    has_step_cap = models.BooleanField(null=True)
    steps_per_epoch = models.PositiveIntegerField(null=True)
    tokens_per_step = models.FloatField(null=True)
    squares_per_step = models.FloatField(null=True)
    longest_batch_tokens = models.PositiveIntegerField(null=True)
    longest_sequence = models.PositiveIntegerField(null=True)
    device_kind = models.CharField(max_length=200, blank=True)
    device_memory_mib = models.PositiveIntegerField(null=True)
    world_size = models.PositiveIntegerField(null=True)
    cpu_threads = models.PositiveIntegerField(null=True)
    co_runners = models.PositiveIntegerField(null=True, help_text="Other jobs on the node when it started.")
    software = models.CharField(max_length=300, blank=True)

    told_by = models.CharField(
        max_length=150, blank=True, help_text="Who told the figure; empty for what was measured."
    )
    completed_by = models.CharField(
        max_length=150, blank=True, help_text="Who said the conditions that its source does not."
    )
    said = models.JSONField(default=dict, help_text="The conditions that a person said, and what they said.")
    incomplete_because = models.TextField(
        blank=True, help_text="Why it is used for nothing: what is not known of it, or contradicts."
    )
    source_tree = models.CharField(
        max_length=1000, blank=True, help_text="The folder or file that was harvested with it."
    )
    source_file = models.CharField(max_length=1000)
    source_line = models.PositiveIntegerField(null=True)
    fingerprint = models.CharField(
        max_length=64, unique=True, help_text="Harvesting twice is the same as once."
    )
    observed_at = models.DateTimeField()
    changed_at = models.DateTimeField(
        auto_now=True, help_text="When it was recorded, or completed by a person."
    )

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["metric", "model_shape"], name="observation_lookup"),
            models.Index(fields=["is_complete", "-id"], name="observation_incomplete"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} {self.value:g} {self.unit}".rstrip()


class Calibration(models.Model):
    """What was fitted to a set of observations, with its error and its range of validity."""

    key = models.CharField(
        max_length=64, unique=True, help_text="Of the conditions that all its observations share."
    )
    metric = models.CharField(max_length=60)
    shared = models.JSONField(default=dict, help_text="The conditions that all its observations share.")
    model_shape = models.CharField(max_length=120, blank=True)
    model_name = models.CharField(max_length=200, blank=True)
    device_kind = models.CharField(max_length=200, blank=True)
    coefficients = models.JSONField(default=dict)
    left_out = models.JSONField(default=list, help_text="Terms that the observations cannot identify.")
    error_ratio = models.FloatField(null=True, help_text="Mean absolute error over the fitted value.")
    runs_count = models.PositiveIntegerField(
        default=0, help_text="Runs, which are what an error is counted by."
    )
    valid_from = models.JSONField(
        default=dict, help_text="The lowest value of each condition that was fitted."
    )
    valid_to = models.JSONField(
        default=dict, help_text="The highest value of each condition that was fitted."
    )
    observations = models.ManyToManyField(Observation, related_name="calibrations")
    fitted_at = models.DateTimeField()

    class Meta:
        ordering = ["-fitted_at"]

    def __str__(self) -> str:
        return f"{self.metric} of {self.model_name or 'any model'} on {self.device_kind or 'any device'}"


class Estimate(models.Model):
    """What the plan said of a run, and what it then was."""

    run = models.ForeignKey("experiments.Run", models.CASCADE, related_name="estimates")
    metric = models.CharField(max_length=60)
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    grade = models.CharField(max_length=20, choices=[(g.value, g.value) for g in Grade])
    n = models.PositiveIntegerField(default=0, help_text="Runs that it rests on.")
    observation_ids = models.JSONField(default=list)
    note = models.TextField(blank=True)
    actual = models.FloatField(null=True, help_text="What was measured of the run when it had ended.")
    compared_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["run", "id"]
        indexes = [models.Index(fields=["metric", "grade", "compared_at"], name="estimate_errors")]
        constraints = [
            models.UniqueConstraint(fields=["run", "metric"], name="one_estimate_of_a_metric_a_run"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} of {self.run}"
