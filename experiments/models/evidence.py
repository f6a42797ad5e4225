"""What was learned: measured facts with their conditions, and what was fitted to them."""

from django.db import models


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
    device_kind = models.CharField(max_length=100, blank=True)
    precision = models.CharField(max_length=10, blank=True)
    recipe = models.CharField(max_length=100, blank=True)
    lora_rank = models.PositiveIntegerField(null=True)
    batch_size = models.PositiveIntegerField(null=True)
    gradient_accumulation_steps = models.PositiveIntegerField(null=True)
    max_seq_len = models.PositiveIntegerField(null=True)
    packed = models.BooleanField(null=True)
    world_size = models.PositiveIntegerField(null=True)
    cpu_threads = models.PositiveIntegerField(null=True)
    co_runners = models.PositiveIntegerField(null=True, help_text="Other jobs on the node when it started.")
    versions = models.JSONField(default=dict)

    source_file = models.CharField(max_length=1000)
    source_line = models.PositiveIntegerField(null=True)
    fingerprint = models.CharField(
        max_length=64, unique=True, help_text="Harvesting twice is the same as once."
    )
    observed_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["metric", "base_model"], name="observation_lookup")]

    def __str__(self) -> str:
        return f"{self.metric} {self.value:g} {self.unit}".rstrip()


class Calibration(models.Model):
    """What was fitted to a set of observations, with its error and its range of validity."""

    metric = models.CharField(max_length=60)
    base_model = models.ForeignKey(
        "experiments.BaseModel", models.CASCADE, null=True, related_name="calibrations"
    )
    device_kind = models.CharField(max_length=100, blank=True)
    coefficients = models.JSONField(default=dict)
    error_ratio = models.FloatField(null=True, help_text="Mean absolute error over the fitted value.")
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
        return f"{self.metric} of {self.base_model or 'any model'} on {self.device_kind or 'any device'}"
