"""What lists of the API can be narrowed by."""

from django.db.models import QuerySet
from django_filters import rest_framework as filters

from experiments.models import BaseModel, Calibration, Dataset, Experiment, Observation


class LabFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter has no types
    pass


class DatasetFilter(LabFilter):
    class Meta:
        model = Dataset
        fields = ["name"]


class BaseModelFilter(LabFilter):
    class Meta:
        model = BaseModel
        fields = ["name", "architecture"]


class ExperimentFilter(LabFilter):
    is_draft = filters.BooleanFilter("approved_at", lookup_expr="isnull")
    created_by = filters.CharFilter("created_by__username")

    class Meta:
        model = Experiment
        fields = ["name"]


class NumbersFilter(filters.BaseInFilter, filters.NumberFilter):  # type: ignore[misc]
    """1,2,3"""


class ObservationFilter(LabFilter):
    ids = NumbersFilter("pk", lookup_expr="in", help_text="The observations of a figure: 1,2,3.")
    experiment = filters.CharFilter("run__cell__experiment__name")
    run = filters.NumberFilter("run_id")
    model = filters.CharFilter("model_name")
    calibration = filters.NumberFilter("calibrations__id")
    is_told = filters.BooleanFilter("told_by", method="told", help_text="Told by a person, not measured.")
    source_tree = filters.CharFilter("source_tree", help_text="The path that it was harvested with.")

    class Meta:
        model = Observation
        fields = ["metric", "device_kind", "model_shape", "is_complete", "is_bound"]

    def told(self, rows: QuerySet[Observation], name: str, value: bool) -> QuerySet[Observation]:
        return rows.exclude(told_by="") if value else rows.filter(told_by="")


class CalibrationFilter(LabFilter):
    model = filters.CharFilter("model_name")

    class Meta:
        model = Calibration
        fields = ["metric", "device_kind", "model_shape"]
