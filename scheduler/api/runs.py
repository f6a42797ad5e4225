"""Runs: what they do, why they wait, how they ended. Here and not in experiments, because it tells jobs, too."""

from collections.abc import Mapping
from functools import cached_property
from math import isfinite

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from experiments import control
from experiments import queries as run_queries
from experiments.api.parsers import require_no_body
from experiments.api.permissions import MayView, acting_user
from experiments.api.responses import LabViewSet, OneRenderer
from experiments.api.serializers import ProblemsSerializer
from experiments.models import Run
from scheduler import queries
from scheduler.api.filters import RunFilter
from scheduler.api.serializers import (
    EstimatedRunSerializer,
    LinesSerializer,
    LossPointSerializer,
    RunSerializer,
)


class RunViewSet(LabViewSet[Run]):
    queryset = Run.every.select_related("cell__experiment").prefetch_related("launches").order_by("-id")
    filterset_class = RunFilter

    def get_serializer_class(self) -> type[BaseSerializer[Run]]:
        return EstimatedRunSerializer if self.action == "retrieve" else RunSerializer

    def get_queryset(self) -> QuerySet[Run]:
        """The list has the last attempt of each run, unless it is asked otherwise; by its id any is found."""
        runs = super().get_queryset()
        if self.action == "list" and "superseded" not in self.request.query_params:
            return runs.filter(superseded_by__isnull=True)
        return runs

    @cached_property
    def waiting_reasons(self) -> Mapping[int, str]:
        """Once a request, and only when there is a queued run to explain."""
        return queries.waiting_reasons()

    @cached_property
    def away_notes(self) -> Mapping[int, str]:
        """Likewise, of running ones."""
        return queries.away_notes()

    @extend_schema(request=None, responses={202: None, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel one's own run, or anybody's with `experiments.control_any_run`."""
        require_no_body(request)
        control.cancel_run(run=self.get_object(), user=acting_user(request), now=timezone.now())
        return Response(status=status.HTTP_202_ACCEPTED)

    @extend_schema(parameters=[LinesSerializer], responses={(200, "text/plain"): OpenApiTypes.STR})
    @action(detail=True, content_negotiation_class=OneRenderer)
    def log(self, request: Request, pk: str) -> HttpResponse:
        """The last lines of its log."""
        asked = LinesSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        text = run_queries.log_tail(self.get_object(), lines=asked.validated_data["lines"])
        return HttpResponse(text, content_type="text/plain; charset=utf-8")

    @extend_schema(responses=LossPointSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def loss(self, request: Request, pk: str) -> Response:
        """The training loss by step."""
        points = run_queries.loss_curve(self.get_object())
        # a diverged run logs NaN, which JSON does not know
        return Response([{"step": step, "loss": loss if isfinite(loss) else None} for step, loss in points])
