"""What was measured, told and fitted; people add what they know and complete what a source does not say."""

from django.db.models import Count
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import calibration, telling
from experiments.api.evidence_serializers import (
    CalibrationSerializer,
    CompletedSerializer,
    CompletionSerializer,
    ObservationSerializer,
    PlannerErrorSerializer,
    ToldSerializer,
)
from experiments.api.filters import CalibrationFilter, ObservationFilter
from experiments.api.parsers import JsonDocumentParser
from experiments.api.permissions import MayChange, acting_user
from experiments.api.responses import LabViewSet
from experiments.api.serializers import ProblemsSerializer
from experiments.models import Calibration, Observation


class ObservationViewSet(LabViewSet[Observation]):
    queryset = Observation.objects.select_related("run__cell__experiment", "base_model").order_by("-id")
    serializer_class = ObservationSerializer
    filterset_class = ObservationFilter
    parser_classes = [JsonDocumentParser]

    @extend_schema(request=ToldSerializer, responses={201: ObservationSerializer, 400: ProblemsSerializer})
    def create(self, request: Request) -> Response:
        """Tell a figure; it is graded as told. Needs the permission `experiments.add_observation`."""
        asked = ToldSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        by = acting_user(request).get_username()
        told = telling.tell(**asked.validated_data, by=by, now=timezone.now())
        return Response(self.get_serializer(told).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request=CompletionSerializer, responses={200: CompletedSerializer, 400: ProblemsSerializer}
    )
    @action(detail=False, methods=["post"], permission_classes=[MayChange])
    def complete(self, request: Request) -> Response:
        """Say conditions that sources do not. Needs the permission `experiments.change_observation`."""
        asked = CompletionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given, by = asked.validated_data, acting_user(request).get_username()
        chosen = telling.incomplete_ones(ids=given["ids"], tree=given["source_tree"])
        count = telling.complete(observations=chosen, said=given["said"], by=by, now=timezone.now())
        return Response({"chosen": len(chosen), "complete": count})


class CalibrationViewSet(LabViewSet[Calibration]):
    """Its observations are at /observations/?calibration=ID."""

    queryset = Calibration.objects.annotate(observations_count=Count("observations")).order_by(
        "-fitted_at", "-id"
    )
    serializer_class = CalibrationSerializer
    filterset_class = CalibrationFilter

    @extend_schema(responses=PlannerErrorSerializer(many=True), filters=False)
    @action(detail=False, pagination_class=None)
    def errors(self, request: Request) -> Response:
        """The running error of the planner: how far its estimates were off, of runs that have ended."""
        return Response(PlannerErrorSerializer(calibration.planner_error(), many=True).data)
