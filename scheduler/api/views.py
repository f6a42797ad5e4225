"""Jobs, devices and nodes: machines write them, people read them, and drain nodes and devices."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.parsers import require_no_body
from experiments.api.permissions import MayView, acting_user
from experiments.api.responses import LabViewSet
from experiments.api.serializers import ProblemsSerializer
from scheduler import draining
from scheduler.api.filters import DeviceFilter, JobFilter, NodeFilter
from scheduler.api.serializers import (
    DeviceSerializer,
    DrainedDeviceSerializer,
    DrainedNodeSerializer,
    DrainSerializer,
    HostReadingSerializer,
    HoursSerializer,
    JobSerializer,
    NodeSerializer,
    ReadingSerializer,
)
from scheduler.draining import Drained
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

    @extend_schema(request=DrainSerializer, responses=DrainedDeviceSerializer)
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def drain(self, request: Request, pk: str) -> Response:
        """Let it take no new jobs; what runs there goes on. Needs the permission `scheduler.change_device`.

        What is drained already takes another reason, and `drained_before` tells what was said before.
        """
        device = self.get_object()
        drained = draining.drain(device_ids=[device.pk], **_drain(request))
        return Response(DrainedDeviceSerializer(_with_earlier(self.get_object(), drained)).data)

    @extend_schema(request=None, responses={200: DeviceSerializer, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def undrain(self, request: Request, pk: str) -> Response:
        """Let it take jobs again. Needs the permission `scheduler.change_device`."""
        require_no_body(request)
        draining.undrain(device_ids=[self.get_object().pk], user=acting_user(request))
        return Response(self.get_serializer(self.get_object()).data)


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

    @extend_schema(request=DrainSerializer, responses=DrainedNodeSerializer)
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def drain(self, request: Request, pk: str) -> Response:
        """Let none of its devices take new jobs; what runs there goes on. Needs `scheduler.change_device`.

        What is drained already takes another reason, and `drained_before` tells what was said before.
        """
        node = self.get_object()
        drained = draining.drain_nodes(node_ids=[node.pk], **_drain(request))
        return Response(DrainedNodeSerializer(_with_earlier(self.get_object(), drained)).data)

    @extend_schema(request=None, responses={200: NodeSerializer, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def undrain(self, request: Request, pk: str) -> Response:
        """Let it take jobs again, on devices that are not drained themselves. Needs `scheduler.change_device`."""
        require_no_body(request)
        draining.undrain_nodes(node_ids=[self.get_object().pk], user=acting_user(request))
        return Response(self.get_serializer(self.get_object()).data)


def _drain(request: Request) -> dict[str, Any]:
    asked = DrainSerializer(data=request.data)
    asked.is_valid(raise_exception=True)
    return {
        "user": acting_user(request),
        "now": timezone.now(),
        "because": asked.validated_data["because"],
    }


def _with_earlier(row: Any, drained: Drained) -> Any:
    row.drained_before = drained.already.get(row.pk)
    return row


def _since(request: Request) -> datetime:
    asked = HoursSerializer(data=request.query_params)
    asked.is_valid(raise_exception=True)
    return timezone.now() - timedelta(hours=asked.validated_data["hours"])
