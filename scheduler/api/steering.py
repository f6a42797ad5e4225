"""The whole queue: whether it is paused, and pausing it."""

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from experiments.api.parsers import require_no_body
from experiments.api.permissions import MayView, acting_user
from experiments.api.serializers import ProblemsSerializer
from experiments.models import Run
from scheduler import pausing
from scheduler.api.serializers import QueueSerializer
from scheduler.models import TickRequest


class QueueViewSet(GenericViewSet[Run]):
    queryset = Run.objects.none()  # who may see runs may see whether they are paused
    serializer_class = QueueSerializer
    permission_classes = [MayView]
    pagination_class = None
    filter_backends = []

    @extend_schema(responses=QueueSerializer, operation_id="queue_retrieve")
    def list(self, request: Request) -> Response:
        """Whether the queue is paused, by whom and since when, and how many runs wait."""
        return self._told()

    @extend_schema(request=None, responses={200: QueueSerializer, 400: ProblemsSerializer})
    @action(detail=False, methods=["post"])
    def pause(self, request: Request) -> Response:
        """Start nothing any more; what runs goes on. Needs the permission `experiments.control_any_run`."""
        require_no_body(request)
        pausing.pause_queue(user=acting_user(request), now=timezone.now())
        return self._told()

    @extend_schema(request=None, responses={200: QueueSerializer, 400: ProblemsSerializer})
    @action(detail=False, methods=["post"])
    def unpause(self, request: Request) -> Response:
        """Let it go on. Needs the permission `experiments.control_any_run`."""
        require_no_body(request)
        pausing.unpause_queue(user=acting_user(request))
        return self._told()

    def _told(self) -> Response:
        row = TickRequest.objects.first() or TickRequest()
        queue = {
            "paused_at": row.paused_at,
            "paused_by": row.paused_by,
            "queued_runs": Run.objects.queued().count(),
        }
        return Response(QueueSerializer(queue).data)
