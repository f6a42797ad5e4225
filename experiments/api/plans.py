"""What belongs to a plan: its log, and its proposals, decided one by one, by their ids, since keys have slashes."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from experiments import control
from experiments.api.parsers import require_no_body
from experiments.api.permissions import MayViewExperiments, acting_user
from experiments.api.responses import LabViewSet, Pages
from experiments.api.serializers import (
    EntrySerializer,
    PlannedExperimentSerializer,
    ProblemsSerializer,
    ProposalSerializer,
)
from experiments.models import Experiment, PlanEntry, Proposal

_NAME = OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH, description="Of the experiment.")


@extend_schema_view(list=extend_schema(parameters=[_NAME]))
class LogViewSet(ListModelMixin, GenericViewSet[PlanEntry]):
    """What was verified, found, computed, asked and decided, also while it ran, the oldest first."""

    queryset = PlanEntry.objects.all()
    serializer_class = EntrySerializer
    permission_classes = [MayViewExperiments]
    pagination_class = Pages

    def get_queryset(self) -> QuerySet[PlanEntry]:
        experiment = _experiment(self.kwargs)
        return super().get_queryset().filter(experiment=experiment).order_by("id")


@extend_schema_view(
    list=extend_schema(parameters=[_NAME]),
    retrieve=extend_schema(parameters=[_NAME]),
)
class ProposalViewSet(LabViewSet[Proposal]):
    """What evidence speaks for. A plan that is estimated anew may make others, with other ids."""

    queryset = Proposal.objects.select_related("experiment")
    serializer_class = ProposalSerializer
    permission_classes = [MayViewExperiments]
    lookup_value_regex = "[0-9]+"

    def get_queryset(self) -> QuerySet[Proposal]:
        experiment = _experiment(self.kwargs)
        return super().get_queryset().filter(experiment=experiment).order_by("id")

    @extend_schema(
        parameters=[_NAME],
        request=None,
        responses={200: PlannedExperimentSerializer, 400: ProblemsSerializer},
    )
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, name: str, pk: str) -> Response:
        """Take it up: one's own plan, or anybody's with `experiments.control_any_run`.

        Answers with the draft that it changed, or with the draft of the probes that it made.
        """
        require_no_body(request)
        made = control.accept(proposal=self.get_object(), user=acting_user(request), now=timezone.now())
        return Response(PlannedExperimentSerializer(made).data)

    @extend_schema(
        parameters=[_NAME], request=None, responses={200: ProposalSerializer, 400: ProblemsSerializer}
    )
    @action(detail=True, methods=["post"])
    def decline(self, request: Request, name: str, pk: str) -> Response:
        """Turn it down; it is not made again."""
        require_no_body(request)
        proposal = self.get_object()
        control.decline(proposal=proposal, user=acting_user(request), now=timezone.now())
        proposal.refresh_from_db()
        return Response(self.get_serializer(proposal).data)


def _experiment(named: Mapping[str, Any]) -> Experiment:
    return get_object_or_404(Experiment, name=named.get("name", ""))
