"""What the views of both apps have in common."""

from collections.abc import Iterable
from typing import TypeVar

from django.db.models import Model
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.viewsets import ReadOnlyModelViewSet

from experiments.api.permissions import ModelPermissions

_M = TypeVar("_M", bound=Model, covariant=True)


class Pages(LimitOffsetPagination):
    max_limit = 500


class OneRenderer(DefaultContentNegotiation):
    """For views whose type follows from the address: `Accept: text/csv` is no reason for a 406."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class LabViewSet(ReadOnlyModelViewSet[_M]):
    """Reading, with the permissions and pages of every view set."""

    permission_classes = [ModelPermissions]
    pagination_class = Pages
