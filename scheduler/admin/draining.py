"""Draining nodes and devices in the admin: on their pages with a reason, in their lists without."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import AbstractUser
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from experiments.admin.base import Page, person, url_of
from scheduler import draining
from scheduler.admin.readings import MeasuredAdmin
from scheduler.draining import Drained


class DrainableAdmin(MeasuredAdmin):
    """Only whether it takes jobs is for people to say."""

    change_form_outer_before_template = "admin/scheduler/draining.html"
    actions = ["drain", "undrain"]

    def is_withheld(self, row: Any) -> bool:
        raise NotImplementedError

    def what_is_said(self, row: Any) -> str:
        """Of one that is drained: who did it and why, or what labmgr found."""
        raise NotImplementedError

    def drain_rows(self, pks: list[int], *, user: AbstractUser, now: datetime, because: str) -> Drained:
        raise NotImplementedError

    def undrain_rows(self, pks: list[int], *, user: AbstractUser) -> int:
        raise NotImplementedError

    def pages(self) -> list[Page]:
        return [
            ("<int:pk>/drain/", "drain", self.drain_view),
            ("<int:pk>/undrain/", "undrain", self.undrain_view),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown = {
            "may_drain": draining.may_drain(person(request)),
            "is_withheld": row and self.is_withheld(row),
            "takes_reason": row and draining.by_a_person(self.what_is_said(row)),
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return draining.may_drain(person(request))

    @admin.action(description="Drain: take no new jobs", permissions=["steer"])
    def drain(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._drain(request, [row.pk for row in rows])

    @admin.action(description="Undrain: take jobs again", permissions=["steer"])
    def undrain(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._undrain(request, [row.pk for row in rows])

    @method_decorator(require_POST)
    def drain_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Model = self.seen(request, pk)
        self._drain(request, [pk], because=request.POST.get("because", ""))
        return redirect(url_of(row))

    @method_decorator(require_POST)
    def undrain_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Model = self.seen(request, pk)
        self._undrain(request, [pk])
        return redirect(url_of(row))

    def _drain(self, request: HttpRequest, pks: list[int], because: str = "") -> None:
        try:
            drained = self.drain_rows(pks, user=person(request), now=timezone.now(), because=because)
        except draining.BadReason as refusal:
            messages.error(request, str(refusal))
            return
        if drained.new:
            messages.success(request, f"{drained.new} drained. What runs there goes on.")
        for told in dict.fromkeys(drained.retold.values()):
            messages.success(request, f"Drained already, and has another reason now. Before: {told}")
        for told in dict.fromkeys(drained.kept.values()):
            messages.info(request, f"No new jobs were taken already. {told}")

    def _undrain(self, request: HttpRequest, pks: list[int]) -> None:
        changed = self.undrain_rows(pks, user=person(request))
        if changed:
            messages.success(request, f"{changed} undrained.")
        else:
            messages.info(request, "Nothing was drained there.")
