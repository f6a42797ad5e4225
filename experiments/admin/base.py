"""What the lab's admin pages share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from experiments.models import Observation

if TYPE_CHECKING:  # Unfold has no types of its own
    from django.contrib.admin import ModelAdmin

    _ModelAdmin = ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin as _ModelAdmin

OBSERVATIONS_PER_PAGE = 100
Page = tuple[str, str, Callable[..., HttpResponseBase]]  # route, name, view


class LabList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = (
            self.result_count
        )  # not counted; otherwise Unfold offers "Show all" on every list


class LabAdmin(_ModelAdmin):
    list_per_page = 25
    show_full_result_count = False
    list_fullwidth = True
    list_filter_sheet = False
    actions: Any = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LabList

    def pages(self) -> list[Page]:
        """Further pages of this model, below its changelist."""
        return []

    def get_urls(self) -> list[URLPattern]:
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [
            path(route, self.admin_site.admin_view(view), name=f"{prefix}_{name}")
            for route, name, view in self.pages()
        ]
        return own + super().get_urls()

    def seen(self, request: HttpRequest, pk: int) -> Any:
        """The row, if this person may see it."""
        found = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_view_permission(request, found):
            raise PermissionDenied
        return found

    def page(self, request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
        """A page of the lab's own inside the admin."""
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "title": title}
        return TemplateResponse(request, template, {**shared, **context})

    def evidence_page(
        self,
        request: HttpRequest,
        *,
        of: Model,
        heading: str,
        observations: QuerySet[Observation],
        figure: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The observations that something rests on. Who may not see observations does not see these."""
        if not sees_observations(person(request)):
            raise PermissionDenied("Seeing evidence needs the permission experiments.view_observation.")
        rows = observations.select_related("run").order_by("-id")
        page = Paginator(rows, OBSERVATIONS_PER_PAGE).get_page(request.GET.get("page"))
        title = f"Evidence of {heading}"
        back = {"back": of, "back_url": url_of(of)}
        return self.page(
            request, "admin/lab/evidence.html", title, heading=heading, page=page, figure=figure, **back
        )


class ReadOnlyAdmin(LabAdmin):
    """What machines write is read-only for people."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def person(request: HttpRequest) -> AbstractUser:
    if not isinstance(request.user, AbstractUser):
        raise PermissionDenied
    return request.user


def sees_observations(user: AbstractUser) -> bool:
    """Whether to link figures to their observations."""
    return user.has_perm("experiments.view_observation")


def url_of(row: Model) -> str:
    """Its page in the admin."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
