import json
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from experiments import control, documents, planning, summaries
from experiments.admin import deciding, figures, steering
from experiments.admin.base import LabList, Page, ReadOnlyAdmin, person, sees_observations, url_of
from experiments.admin.forms import EXAMPLE, DocumentForm
from experiments.admin.pages import beside_the_plan, document_text, may_control, plan_table, summary_page
from experiments.admin.progress import Progress, progress_of
from experiments.models import Experiment, Observation
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
            ("<int:pk>/cells/<int:index>/<slug:figure>/", "evidence", self.evidence_view),
            ("<int:pk>/total/<slug:figure>/", "total", self.total_view),
            ("<int:pk>/plan.json", "plan_json", self.plan_json_view),
            ("<int:pk>/proposals/<int:proposal>/", "proposal", self.proposal_view),
            ("<int:pk>/proposals/<int:proposal>/accept/", "accept", self.accept_view),
            ("<int:pk>/proposals/<int:proposal>/decline/", "decline", self.decline_view),
            ("<int:pk>/approve/", "approve", self.approve_view),
            ("<int:pk>/cancel/", "cancel", self.cancel_view),
            ("<int:pk>/pause/", "pause", self.pause_view),
            ("<int:pk>/unpause/", "unpause", self.unpause_view),
            ("<int:pk>/window/", "window", self.window_view),
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
        if experiment:
            context |= beside_the_plan(experiment)
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
        return deciding.approve(request, self.seen(request, pk))

    @method_decorator(require_POST)
    def accept_view(self, request: HttpRequest, pk: int, proposal: int) -> HttpResponse:
        return deciding.accept(request, self.seen(request, pk), proposal)

    @method_decorator(require_POST)
    def decline_view(self, request: HttpRequest, pk: int, proposal: int) -> HttpResponse:
        return deciding.decline(request, self.seen(request, pk), proposal)

    def evidence_view(self, request: HttpRequest, pk: int, index: int, figure: str) -> HttpResponse:
        """A figure of a cell, with the observations that it rests on."""
        experiment = self.seen(request, pk)
        cell = get_object_or_404(experiment.cells.select_related("experiment"), index=index)
        shown = figures.of_cell(cell, figure)
        return self._figure_page(request, experiment, cell.name, shown)

    def total_view(self, request: HttpRequest, pk: int, figure: str) -> HttpResponse:
        experiment = self.seen(request, pk)
        shown = next((total for total in figures.of_totals(experiment) if total["name"] == figure), None)
        return self._figure_page(request, experiment, experiment.name, shown)

    def proposal_view(self, request: HttpRequest, pk: int, proposal: int) -> HttpResponse:
        """The observations that speak for a proposal."""
        experiment = self.seen(request, pk)
        row = get_object_or_404(experiment.proposals, pk=proposal)
        chosen = Observation.objects.filter(pk__in=row.observation_ids)
        return self.evidence_page(request, of=experiment, heading=row.title, observations=chosen)

    def plan_json_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self.seen(request, pk)
        text = json.dumps(planning.exported_plan(experiment), indent=2)
        headers = {"Content-Disposition": f'attachment; filename="{experiment.name}.plan.json"'}
        return HttpResponse(text, "application/json; charset=utf-8", headers=headers)

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self.seen(request, pk)
        if control.cancel_experiment(experiment=experiment, user=person(request), now=timezone.now()):
            messages.success(request, "Cancelled. What is running is being ended.")
        else:
            messages.info(request, "There was nothing to cancel: every run has ended.")
        return redirect(url_of(experiment))

    @method_decorator(require_POST)
    def pause_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return steering.pause(request, self.seen(request, pk))

    @method_decorator(require_POST)
    def unpause_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return steering.unpause(request, self.seen(request, pk))

    @method_decorator(require_POST)
    def window_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return steering.set_window(request, self.seen(request, pk))

    def summary_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        experiment = self.seen(request, pk)
        return self.page(
            request,
            "admin/experiments/experiment/summary.html",
            f"Summary of {experiment}",
            original=experiment,
            progress=progress_of([experiment])[pk],
            **summary_page(experiment, request.GET.get("page")),
        )

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
        state = display.state_label(_progress(experiment).state)
        return state + display.paused_label(experiment)

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
            "sees_observations": sees_observations(user),
            **plan_table(experiment, request.GET.get("page")),
        }

    def _figure_page(
        self, request: HttpRequest, experiment: Experiment, whose: str, figure: dict[str, Any] | None
    ) -> HttpResponse:
        if figure is None:
            raise Http404
        chosen = Observation.objects.filter(pk__in=figure["observations"])
        heading = f"{whose}: {figure['label']}"
        return self.evidence_page(request, of=experiment, heading=heading, observations=chosen, figure=figure)

    def _document_page(self, request: HttpRequest, form: DocumentForm) -> HttpResponse:
        return self.page(request, "admin/experiments/experiment/add.html", "Add experiment", form=form)


def _planned(form: DocumentForm, request: HttpRequest) -> Experiment | None:
    """The draft of the document, or the reasons on the form why there is none."""
    user, now = person(request), timezone.now()
    try:
        plan = planning.plan(data=form.cleaned_data["data"], user=user, now=now)
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
