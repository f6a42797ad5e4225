"""What experiments are made from: datasets and base models, as they were last verified on disk."""

from django.db import models


class Dataset(models.Model):
    name = models.CharField(max_length=200, unique=True)
    path = models.CharField(max_length=1000, help_text="A file under one of the declared dataset roots.")
    format = models.CharField(max_length=20, blank=True)
    system_prompt = models.TextField(blank=True)
    generator_call = models.JSONField(
        null=True, blank=True, help_text="The call that made it, if labmgr did."
    )
    input_column = models.CharField(max_length=100, blank=True)
    output_column = models.CharField(max_length=100, blank=True)
    messages_column = models.CharField(
        max_length=100, blank=True, help_text="Of chat rows, in place of the two columns."
    )
    split_rows = models.JSONField(default=dict, help_text="Rows of each split, as last verified.")
    findings = models.JSONField(
        default=list, help_text="Empty and double rows, overlaps of splits, changes, as last verified."
    )
    content_hash = models.CharField(max_length=64, blank=True)
    problem = models.TextField(blank=True, help_text="Why it cannot be used, as last verified.")
    verified_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class BaseModel(models.Model):
    """A base checkpoint directory in Hugging Face layout."""

    name = models.CharField(max_length=200, unique=True)
    path = models.CharField(max_length=1000, help_text="A directory under one of the declared model roots.")
    architecture = models.CharField(max_length=100, blank=True)
    parameter_count = models.BigIntegerField(null=True)
    config = models.JSONField(default=dict, help_text="config.json, as last verified.")
    shape = models.CharField(max_length=120, blank=True, help_text="What time and memory depend on.")
    tokenizer_hash = models.CharField(max_length=64, blank=True)
    content_hash = models.CharField(max_length=64, blank=True)
    problem = models.TextField(blank=True, help_text="Why it cannot be used, as last verified.")
    verified_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "model"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TokenLengths(models.Model):
    """How long each row of a split is under a model's tokenizer: counted once, since nothing of it changes."""

    key = models.CharField(
        max_length=64, unique=True, help_text="Of file, split, columns, prompt and tokenizer."
    )
    dataset_hash = models.CharField(max_length=64)
    tokenizer_hash = models.CharField(max_length=64)
    split = models.CharField(max_length=100)
    rows = models.PositiveIntegerField()
    lengths = models.BinaryField(help_text="Unsigned 32-bit numbers, little endian, zlib.")
    counted_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "token lengths"

    def __str__(self) -> str:
        return f"{self.rows} rows of {self.split}"
