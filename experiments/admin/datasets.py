from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from experiments import catalogue
from experiments.admin.base import LabAdmin
from experiments.admin.forms import DatasetForm
from experiments.models import Dataset
from experiments.templatetags import lab as display

COLUMNS = ("input_column", "output_column", "messages_column")


@admin.register(Dataset)
class DatasetAdmin(LabAdmin):
    """People name a file; what is known of it comes from verifying it."""

    form = DatasetForm
    list_display = ["name", "format", "rows", "path", "verified", "usable"]
    search_fields = ["name", "path"]
    readonly_fields = ["rows", "found", "content_hash", "problem", "verified", "made_by", "created"]
    fieldsets = [
        (None, {"fields": ["name", "path", "format", *COLUMNS, "system_prompt"]}),
        (
            "As last verified",
            {"fields": ["rows", "found", "content_hash", "problem", "verified", "made_by", "created"]},
        ),
    ]

    def save_model(self, request: HttpRequest, obj: Dataset, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        now = timezone.now()
        try:
            catalogue.record_dataset(catalogue.find_dataset(obj.name), now=now)
        except catalogue.NotFound as missing:
            messages.warning(request, f"It is saved and cannot be used: {missing}")

    @admin.display(description="Rows")
    def rows(self, dataset: Dataset) -> str:
        return display.pairs(dataset.split_rows)

    @admin.display(description="Findings")
    def found(self, dataset: Dataset) -> SafeString | str:
        return display.lines(dataset.findings)

    @admin.display(description="Made by")
    def made_by(self, dataset: Dataset) -> str:
        return display.pairs(dataset.generator_call or {})

    @admin.display(description="Verified", ordering="verified_at")
    def verified(self, dataset: Dataset) -> str:
        return display.when(dataset.verified_at)

    @admin.display(description="Created")
    def created(self, dataset: Dataset) -> str:
        return display.when(dataset.created_at)

    @admin.display(description="Usable")
    def usable(self, dataset: Dataset) -> SafeString:
        return display.usable(dataset.verified_at, dataset.problem)
