from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from experiments import catalogue
from experiments.admin.base import LabAdmin
from experiments.admin.forms import BaseModelForm
from experiments.models import BaseModel
from experiments.shapes import size_label
from experiments.templatetags import lab as display


@admin.register(BaseModel)
class BaseModelAdmin(LabAdmin):
    """People name a directory; what is known of it comes from verifying it."""

    form = BaseModelForm
    list_display = ["name", "size", "architecture", "parameters", "path", "verified", "usable"]
    search_fields = ["name", "path", "architecture"]
    readonly_fields = [
        "architecture",
        "size",
        "parameters",
        "shape",
        "config",
        "content_hash",
        "problem",
        "verified",
        "created",
    ]
    fieldsets = [
        (None, {"fields": ["name", "path"]}),
        ("As last verified", {"fields": [*readonly_fields]}),
    ]

    def save_model(self, request: HttpRequest, obj: BaseModel, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        try:
            catalogue.record_model(catalogue.find_model(obj.name), now=timezone.now())
        except catalogue.NotFound as missing:
            messages.warning(request, f"It is saved and cannot be used: {missing}")

    @admin.display(description="Parameters", ordering="parameter_count")
    def parameters(self, model: BaseModel) -> str:
        return display.number(model.parameter_count)

    @admin.display(description="Size", ordering="parameter_count")
    def size(self, model: BaseModel) -> str:
        return size_label(model.parameter_count) if model.parameter_count else display.NOTHING

    @admin.display(description="Verified", ordering="verified_at")
    def verified(self, model: BaseModel) -> str:
        return display.when(model.verified_at)

    @admin.display(description="Created")
    def created(self, model: BaseModel) -> str:
        return display.when(model.created_at)

    @admin.display(description="Usable")
    def usable(self, model: BaseModel) -> SafeString:
        return display.usable(model.verified_at, model.problem)
