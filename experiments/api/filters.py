"""What lists of the API can be narrowed by."""

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


class ObservationFilter(LabFilter):
    experiment = filters.CharFilter("run__cell__experiment__name")
    run = filters.NumberFilter("run_id")
    model = filters.CharFilter("base_model__name")
    calibration = filters.NumberFilter("calibrations__id")

    class Meta:
        model = Observation
        fields = ["metric", "device_kind", "is_complete", "is_bound"]


class CalibrationFilter(LabFilter):
    model = filters.CharFilter("model_name")

    class Meta:
        model = Calibration
        fields = ["metric", "device_kind"]
