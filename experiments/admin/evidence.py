from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from experiments.admin.base import ReadOnlyAdmin, url_of
from experiments.models import Calibration, Observation
from experiments.templatetags import lab as display


@admin.register(Observation)
class ObservationAdmin(ReadOnlyAdmin):
    list_display = [
        "metric",
        "measured",
        "bound",
        "of_run",
        "base_model",
        "device_kind",
        "is_complete",
        "observed",
    ]
    list_select_related = ["run", "base_model"]
    list_filter = ["metric", "is_complete", "is_bound"]
    search_fields = ["metric", "run__name", "base_model__name", "device_kind"]
    fieldsets = [
        (None, {"fields": ["metric", "measured", "bound", "is_complete", "of_run", "observed"]}),
        (
            "Conditions",
            {"fields": ["base_model", "device_kind", "precision", "recipe", "lora_rank", "batch_size"]},
        ),
        (
            "Further conditions",
            {"fields": ["gradient_accumulation_steps", "max_seq_len", "packed", "world_size"]},
        ),
        ("Its machine", {"fields": ["cpu_threads", "co_runners", "software"]}),
        ("Where it was read", {"fields": ["source_file", "source_line", "fingerprint"]}),
    ]

    @admin.display(description="Value", ordering="value")
    def measured(self, observation: Observation) -> str:
        return f"{display.number(observation.value)} {observation.unit}".rstrip()

    @admin.display(description="Is", ordering="is_bound")
    def bound(self, observation: Observation) -> str:
        return "a bound" if observation.is_bound else "measured"

    @admin.display(description="Run", ordering="run")
    def of_run(self, observation: Observation) -> str | SafeString:
        run = observation.run
        return display.link(url_of(run), run.name) if run else display.NOTHING

    @admin.display(description="Observed", ordering="observed_at")
    def observed(self, observation: Observation) -> str:
        return display.when(observation.observed_at)


@admin.register(Calibration)
class CalibrationAdmin(ReadOnlyAdmin):
    list_display = ["metric", "model_name", "device_kind", "fit", "error", "observed", "fitted"]
    list_filter = ["metric"]
    search_fields = ["metric", "model_name", "device_kind"]
    fields = [
        "metric",
        "model_name",
        "device_kind",
        "fit",
        "error",
        "lowest",
        "highest",
        "observed",
        "fitted",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Calibration]:
        seen: QuerySet[Calibration] = super().get_queryset(request)
        return seen.annotate(observation_count=Count("observations"))

    @admin.display(description="Coefficients")
    def fit(self, calibration: Calibration) -> str:
        return display.pairs(calibration.coefficients)

    @admin.display(description="Mean error", ordering="error_ratio")
    def error(self, calibration: Calibration) -> str:
        return display.NOTHING if calibration.error_ratio is None else f"{calibration.error_ratio:.1%}"

    @admin.display(description="Observations", ordering="observation_count")
    def observed(self, calibration: Calibration) -> str:
        return display.number(getattr(calibration, "observation_count", None))

    @admin.display(description="Valid from")
    def lowest(self, calibration: Calibration) -> str:
        return display.pairs(calibration.valid_from)

    @admin.display(description="Valid to")
    def highest(self, calibration: Calibration) -> str:
        return display.pairs(calibration.valid_to)

    @admin.display(description="Fitted", ordering="fitted_at")
    def fitted(self, calibration: Calibration) -> str:
        return display.when(calibration.fitted_at)
