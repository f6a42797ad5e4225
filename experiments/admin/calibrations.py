"""Calibrations: what was fitted to observations, and how far the planner's estimates turned out to be off."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from experiments import calibration
from experiments.admin.base import Page, ReadOnlyAdmin
from experiments.admin.figures import METRICS
from experiments.models import Calibration
from experiments.templatetags import lab as display


@admin.register(Calibration)
class CalibrationAdmin(ReadOnlyAdmin):
    list_display = ["metric", "of_what", "device", "terms", "error", "runs", "observed", "fitted"]
    list_filter = ["metric"]
    search_fields = ["metric", "model_name", "model_shape", "device_kind"]
    fieldsets = [
        (None, {"fields": ["metric", "model_name", "model_shape", "device_kind", "fitted"]}),
        ("The fit", {"fields": ["fit", "terms_left_out", "error", "runs", "evidence"]}),
        ("Holds for", {"fields": ["range", "conditions"]}),
    ]
    list_before_template = "admin/experiments/calibration/errors.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Calibration]:
        seen: QuerySet[Calibration] = super().get_queryset(request)
        return seen.annotate(observation_count=Count("observations"))

    def pages(self) -> list[Page]:
        return [("<int:pk>/evidence/", "evidence", self.evidence_view)]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        errors = {"planner_errors": calibration.planner_error(), "metric_names": METRICS}
        return super().changelist_view(request, {**(extra_context or {}), **errors})

    def evidence_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        fitted = self.seen(request, pk)
        chosen = fitted.observations.all()
        return self.evidence_page(request, of=fitted, heading=f"Fit of {fitted}", observations=chosen)

    @admin.display(description="Model", ordering="model_name")
    def of_what(self, calibration: Calibration) -> SafeString:
        return display.clipped(calibration.model_name or calibration.model_shape)

    @admin.display(description="Device", ordering="device_kind")
    def device(self, calibration: Calibration) -> SafeString:
        return display.clipped(calibration.device_kind)

    @admin.display(description="Coefficients")
    def terms(self, calibration: Calibration) -> SafeString:
        return display.clipped(display.pairs(calibration.coefficients))

    @admin.display(description="Coefficients")
    def fit(self, calibration: Calibration) -> str | SafeString:
        return display.facts(calibration.coefficients)

    @admin.display(description="Left out, since the observations do not tell them")
    def terms_left_out(self, calibration: Calibration) -> str | SafeString:
        return display.lines(calibration.left_out)

    @admin.display(description="Runs", ordering="runs_count")
    def runs(self, calibration: Calibration) -> str:
        return display.number(calibration.runs_count)

    @admin.display(description="Mean error", ordering="error_ratio")
    def error(self, calibration: Calibration) -> str:
        return display.percent(calibration.error_ratio)

    @admin.display(description="Observations", ordering="observation_count")
    def observed(self, calibration: Calibration) -> str:
        return display.number(getattr(calibration, "observation_count", None))

    @admin.display(description="Fitted to")
    def evidence(self, calibration: Calibration) -> SafeString:
        url = reverse("admin:experiments_calibration_evidence", args=[calibration.pk])
        return display.link(url, f"{self.observed(calibration)} observations")

    @admin.display(description="From the lowest to the highest that was observed")
    def range(self, calibration: Calibration) -> str | SafeString:
        lowest, highest = calibration.valid_from, calibration.valid_to
        return display.lines(
            f"{name}: {display.number(low)} to {display.number(highest.get(name))}"
            for name, low in lowest.items()
        )

    @admin.display(description="All its observations share")
    def conditions(self, calibration: Calibration) -> str | SafeString:
        return display.facts(calibration.shared)

    @admin.display(description="Fitted", ordering="fitted_at")
    def fitted(self, calibration: Calibration) -> str:
        return display.when(calibration.fitted_at)
