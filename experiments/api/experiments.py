"""Experiments: planned from a document, approved, cancelled, summarised."""

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from experiments import control, planning, steering, summaries
from experiments.api.filters import ExperimentFilter
from experiments.api.parsers import DOCUMENT_PARSERS, given_document, require_no_body
from experiments.api.permissions import MayView, acting_user
from experiments.api.responses import LabViewSet, OneRenderer
from experiments.api.schema import document_schema
from experiments.api.serializers import (
    AnswersSerializer,
    ExperimentSerializer,
    PlannedExperimentSerializer,
    ProblemsSerializer,
    QueuedSerializer,
    SummaryQuerySerializer,
    UnansweredSerializer,
    WindowSerializer,
)
from experiments.models import Experiment

_DOCUMENT = dict.fromkeys(["application/json", "application/yaml"], document_schema())
_SUMMARY = {
    (200, "application/json"): OpenApiTypes.OBJECT,
    (200, "text/csv"): OpenApiTypes.STR,
    (200, "text/markdown"): OpenApiTypes.STR,
}


class ExperimentViewSet(LabViewSet[Experiment]):
    queryset = Experiment.objects.select_related("created_by", "approved_by", "probes_of").order_by(
        "-planned_at", "-id"
    )
    filterset_class = ExperimentFilter
    parser_classes = DOCUMENT_PARSERS
    lookup_field = "name"
    lookup_value_regex = "[A-Za-z0-9._-]+"

    def get_serializer_class(self) -> type[BaseSerializer[Experiment]]:
        return ExperimentSerializer if self.action == "list" else PlannedExperimentSerializer

    @extend_schema(request=_DOCUMENT, responses={201: PlannedExperimentSerializer, 400: ProblemsSerializer})
    def create(self, request: Request) -> Response:
        """Plan a document and keep it as a draft, in place of an earlier draft of the same name."""
        now, user = timezone.now(), acting_user(request)
        plan = planning.plan(data=given_document(request), user=user, now=now)
        experiment = planning.store(plan=plan, user=user, now=now)
        return Response(self.get_serializer(experiment).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request=_DOCUMENT,
        responses={200: OpenApiTypes.OBJECT, 400: ProblemsSerializer},
        operation_id="experiments_plan_dry",
    )
    @action(detail=False, methods=["post"], url_path="plan", url_name="dry-plan")
    def dry_plan(self, request: Request) -> Response:
        """The plan of a document; nothing is stored."""
        plan = planning.plan(data=given_document(request), user=acting_user(request), now=timezone.now())
        return Response(plan.to_json())

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def plan(self, request: Request, name: str) -> Response:
        """The plan as it is stored: cells, totals, proposals, questions, warnings."""
        return Response(planning.stored_plan_json(self.get_object()))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def export(self, request: Request, name: str) -> Response:
        """The plan with its document and its whole log."""
        return Response(planning.exported_plan(self.get_object()))

    @extend_schema(
        request=AnswersSerializer,
        responses={200: QueuedSerializer, 400: ProblemsSerializer, 409: UnansweredSerializer},
    )
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def approve(self, request: Request, name: str) -> Response:
        """Approve the plan and queue its runs. Needs the permission `experiments.approve_plan`.

        Whatever the plan asks has to be answered; 409 tells the questions.
        """
        asked = AnswersSerializer(data=given_document(request))
        asked.is_valid(raise_exception=True)
        queued = control.approve(
            experiment=self.get_object(),
            user=acting_user(request),
            now=timezone.now(),
            answers=asked.validated_data.get("answers"),
        )
        return Response({"queued_runs": queued})

    @extend_schema(request=None, responses={202: None, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def cancel(self, request: Request, name: str) -> Response:
        """Cancel all that has not ended: one's own, or anybody's with `experiments.control_any_run`."""
        require_no_body(request)
        control.cancel_experiment(experiment=self.get_object(), user=acting_user(request), now=timezone.now())
        return Response(status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses={200: ExperimentSerializer, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def pause(self, request: Request, name: str) -> Response:
        """Start nothing more of it; what runs goes on. One's own, or anybody's with `experiments.control_any_run`."""
        require_no_body(request)
        experiment = self.get_object()
        steering.pause(experiment=experiment, user=acting_user(request), now=timezone.now())
        return self._steered(experiment)

    @extend_schema(request=None, responses={200: ExperimentSerializer, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def unpause(self, request: Request, name: str) -> Response:
        """Let it go on: one's own, or anybody's with `experiments.control_any_run`."""
        require_no_body(request)
        experiment = self.get_object()
        steering.unpause(experiment=experiment, user=acting_user(request), now=timezone.now())
        return self._steered(experiment)

    @extend_schema(parameters=[SummaryQuerySerializer], responses=_SUMMARY)
    @action(detail=True, content_negotiation_class=OneRenderer)
    def summary(self, request: Request, name: str) -> HttpResponse:
        """The summary table."""
        asked = SummaryQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted: str = asked.validated_data["format"]
        text = summaries.render(summaries.summarise(self.get_object()), wanted)
        return HttpResponse(text, content_type=f"{SummaryQuerySerializer.FORMATS[wanted]}; charset=utf-8")

    @extend_schema(request=WindowSerializer, responses={200: ExperimentSerializer, 400: ProblemsSerializer})
    @action(detail=True, methods=["post"], permission_classes=[MayView])
    def window(self, request: Request, name: str) -> Response:
        """Set how many of its jobs may be open at once, or auto; a smaller number ends none.

        One's own, or anybody's with `experiments.control_any_run`.
        """
        asked = WindowSerializer(data=given_document(request))
        asked.is_valid(raise_exception=True)
        experiment = self.get_object()
        window = asked.validated_data["max_parallel"]
        steering.set_window(
            experiment=experiment, max_parallel=window, user=acting_user(request), now=timezone.now()
        )
        return self._steered(experiment)

    def _steered(self, experiment: Experiment) -> Response:
        experiment.refresh_from_db()
        return Response(ExperimentSerializer(experiment).data)
