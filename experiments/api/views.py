"""Datasets and models, which people declare, and what was measured and fitted, which they read."""

from django.db.models import Count
from rest_framework.mixins import CreateModelMixin, UpdateModelMixin
from rest_framework.serializers import BaseSerializer

from experiments.api.filters import BaseModelFilter, CalibrationFilter, DatasetFilter, ObservationFilter
from experiments.api.responses import LabViewSet
from experiments.api.serializers import (
    BaseModelSerializer,
    CalibrationSerializer,
    DatasetSerializer,
    ObservationSerializer,
)
from experiments.models import BaseModel, Calibration, Dataset, Observation


class DatasetViewSet(CreateModelMixin, UpdateModelMixin, LabViewSet[Dataset]):
    queryset = Dataset.objects.order_by("name")
    serializer_class = DatasetSerializer
    filterset_class = DatasetFilter

    def perform_update(self, serializer: BaseSerializer[Dataset]) -> None:
        # what was verified may be of another path; the next plan verifies again
        serializer.save(verified_at=None, content_hash="", problem="")


class BaseModelViewSet(CreateModelMixin, UpdateModelMixin, LabViewSet[BaseModel]):
    queryset = BaseModel.objects.order_by("name")
    serializer_class = BaseModelSerializer
    filterset_class = BaseModelFilter

    def perform_update(self, serializer: BaseSerializer[BaseModel]) -> None:
        serializer.save(verified_at=None, content_hash="", problem="")


class ObservationViewSet(LabViewSet[Observation]):
    queryset = Observation.objects.select_related("run__cell__experiment", "base_model").order_by("-id")
    serializer_class = ObservationSerializer
    filterset_class = ObservationFilter


class CalibrationViewSet(LabViewSet[Calibration]):
    """Its observations are at /observations/?calibration=ID."""

    queryset = Calibration.objects.annotate(observations_count=Count("observations")).order_by(
        "-fitted_at", "-id"
    )
    serializer_class = CalibrationSerializer
    filterset_class = CalibrationFilter
