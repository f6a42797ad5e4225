from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from experiments import control, documents, planning, summaries
from experiments.admin.base import LabList, Page, ReadOnlyAdmin, person, url_of
from experiments.admin.forms import EXAMPLE, DocumentForm
from experiments.admin.pages import document_text, may_control, plan_table, summary_page
from experiments.admin.progress import Progress, progress_of
from experiments.lifecycle import NotADraft
from experiments.models import Experiment
from experiments.templatetags import lab as display

EXPORTS = {"csv": "text/csv", "md": "text/markdown", "json": "application/json"}


class ExperimentList(LabList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        progress = progress_of(self.result_list)
        for experiment in self.result_list:
            experiment.progress = progress[experiment.pk]


@admin.register(Experiment)
class ExperimentAdmin(ReadOnlyAdmin):
    """A plan is made from a document and never edited: a draft is replaced by planning its name again."""

    list_display = ["name", "asks", "state", "progress", "created_by", "planned", "approved"]
    list_select_related = ["created_by"]
    list_filter = [("approved_at", admin.EmptyFieldListFilter)]
    search_fields = ["name", "question"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ExperimentList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return person(request).has_perm("experiments.add_experiment")

    def pages(self) -> list[Page]:
        return [
            ("<int:pk>/cells/", "cells", self.cells_view),
            ("<int:pk>/approve/", "approve", self.approve_view),
            ("<int:pk>/cancel/", "cancel", self.cancel_view),
            ("<int:pk>/summary/", "summary", self.summary_view),
            ("<int:pk>/summary.<str:format>", "export", self.export_view),
        ]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._document_page(request, DocumentForm(initial={"document": EXAMPLE}))
        form = DocumentForm(request.POST, request.FILES)
        experiment = _planned(form, request) if form.is_valid() else None
        if experiment is None:
            return self._document_page(request, form)
        messages.success(request, f"{experiment} is planned. Nothing runs before the plan is approved.")
        return redirect(url_of(experiment))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        experiment = self.get_object(request, object_id)
        context = self._change_context(request, experiment) if experiment else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def cells_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The live part of the change page."""
        experiment = self.seen(request, pk)
        context = {**self._change_context(request, experiment), "is_live": True}
        response = TemplateResponse(request, "admin/experiments/experiment/cells.html", context)
        if context["progress"].is_finished:
            response["HX-Refresh"] = "true"
        return response

    @method_decorator(require_POST)
    def approve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self.seen(request, pk)
        try:
            queued = control.approve(experiment=experiment, user=person(request), now=timezone.now())
        except NotADraft as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"The plan is approved; {queued} runs are queued.")
        return redirect(url_of(experiment))

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self.seen(request, pk)
        control.cancel_experiment(experiment=experiment, user=person(request), now=timezone.now())
        messages.success(request, "Cancelled. What is running is being ended.")
        return redirect(url_of(experiment))

    def summary_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self.seen(request, pk)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": experiment,
            "title": f"Summary of {experiment}",
            "progress": progress_of([experiment])[pk],
            **summary_page(experiment, request.GET.get("page")),
        }
        return TemplateResponse(request, "admin/experiments/experiment/summary.html", context)

    def export_view(self, request: HttpRequest, pk: int, format: str) -> HttpResponse:
        experiment = self.seen(request, pk)
        if format not in EXPORTS:
            raise Http404
        text = summaries.render(summaries.summarise(experiment), format)
        name = f'attachment; filename="{experiment.name}.{format}"'
        return HttpResponse(text, f"{EXPORTS[format]}; charset=utf-8", headers={"Content-Disposition": name})

    @admin.display(description="Question", ordering="question")
    def asks(self, experiment: Experiment) -> SafeString:
        return display.clipped(experiment.question)

    @admin.display(description="State")
    def state(self, experiment: Experiment) -> SafeString:
        return display.state_label(_progress(experiment).state)

    @admin.display(description="Runs finished")
    def progress(self, experiment: Experiment) -> SafeString:
        progress = _progress(experiment)
        return display.bar(progress.finished, progress.total, progress.text)

    @admin.display(description="Planned", ordering="planned_at")
    def planned(self, experiment: Experiment) -> str:
        return display.when(experiment.planned_at)

    @admin.display(description="Approved", ordering="approved_at")
    def approved(self, experiment: Experiment) -> str:
        return display.when(experiment.approved_at)

    def _change_context(self, request: HttpRequest, experiment: Experiment) -> dict[str, Any]:
        user = person(request)
        return {
            "original": experiment,
            "progress": progress_of([experiment])[experiment.pk],
            "document": document_text(experiment),
            "may_approve": user.has_perm("experiments.approve_plan"),
            "may_cancel": may_control(user, experiment),
            **plan_table(experiment, request.GET.get("page")),
        }

    def _document_page(self, request: HttpRequest, form: DocumentForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Add experiment",
            "form": form,
        }
        return TemplateResponse(request, "admin/experiments/experiment/add.html", context)


def _planned(form: DocumentForm, request: HttpRequest) -> Experiment | None:
    """The draft of the document, or the reasons on the form why there is none."""
    user, now = person(request), timezone.now()
    try:
        plan = planning.plan(data=form.cleaned_data["data"], user=user)
        return planning.store(plan=plan, user=user, now=now)
    except documents.InvalidDocument as invalid:
        form.refuse(invalid.problems)
    except PermissionDenied as denied:
        form.refuse([documents.Problem("command", str(denied), "Ask an administrator for it.")])
    except planning.NameTaken as taken:
        form.refuse([documents.Problem("name", str(taken), "")])
    return None


def _progress(experiment: Any) -> Progress:
    """ExperimentList has put it there."""
    progress: Progress = experiment.progress
    return progress
