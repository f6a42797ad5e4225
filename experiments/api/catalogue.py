"""Datasets and models, which people declare."""

from rest_framework.mixins import CreateModelMixin, UpdateModelMixin
from rest_framework.serializers import BaseSerializer

from experiments.api.filters import BaseModelFilter, DatasetFilter
from experiments.api.responses import LabViewSet
from experiments.api.serializers import BaseModelSerializer, DatasetSerializer
from experiments.models import BaseModel, Dataset


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
