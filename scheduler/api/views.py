"""Jobs, devices and nodes: machines write them, people read them."""

from datetime import datetime, timedelta

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.responses import LabViewSet
from scheduler.api.filters import DeviceFilter, JobFilter, NodeFilter
from scheduler.api.serializers import (
    DeviceSerializer,
    HostReadingSerializer,
    HoursSerializer,
    JobSerializer,
    NodeSerializer,
    ReadingSerializer,
)
from scheduler.inventory import series
from scheduler.models import Device, HostReading, Job, Node, Reading


class JobViewSet(LabViewSet[Job]):
    queryset = (
        Job.objects.select_related("node", "experiment")
        .prefetch_related("launches", "leases__device__node")
        .order_by("-id")
    )
    serializer_class = JobSerializer
    filterset_class = JobFilter


class DeviceViewSet(LabViewSet[Device]):
    queryset = Device.objects.select_related("node").order_by("node__name", "index")
    serializer_class = DeviceSerializer
    filterset_class = DeviceFilter

    @extend_schema(parameters=[HoursSerializer], responses=ReadingSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def readings(self, request: Request, pk: str) -> Response:
        """What was measured of a GPU in the last hours, at most 500 points. Nothing is measured of other devices."""
        chosen = Reading.objects.filter(device=self.get_object())
        return Response(ReadingSerializer(series.recent(chosen, since=_since(request)), many=True).data)


class NodeViewSet(LabViewSet[Node]):
    queryset = Node.objects.with_session_state().order_by("name")
    serializer_class = NodeSerializer
    filterset_class = NodeFilter

    @extend_schema(parameters=[HoursSerializer], responses=HostReadingSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def readings(self, request: Request, pk: str) -> Response:
        """Memory and load of a machine in the last hours, at most 500 points."""
        chosen = HostReading.objects.filter(node=self.get_object())
        return Response(HostReadingSerializer(series.recent(chosen, since=_since(request)), many=True).data)


def _since(request: Request) -> datetime:
    asked = HoursSerializer(data=request.query_params)
    asked.is_valid(raise_exception=True)
    return timezone.now() - timedelta(hours=asked.validated_data["hours"])
