"""Observations: read-only, but for what people say themselves: figures that they tell, conditions that they complete."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from experiments import telling
from experiments.admin.base import Page, ReadOnlyAdmin, person, url_of
from experiments.admin.saying import CompletionForm, FigureForm
from experiments.documents import InvalidDocument
from experiments.models import Observation
from experiments.templatetags import lab as display

SHOWN = 20  # of the chosen ones, on the page that completes them
_TOLD = ~Q(told_by="")


class SourceFilter(admin.SimpleListFilter):
    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("measured", "measured"),
            ("told", "told by a person"),
            ("completed", "completed by a person"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = {"measured": ~_TOLD, "told": _TOLD, "completed": ~Q(completed_by="")}.get(self.value() or "")
        return queryset.filter(wanted) if wanted is not None else queryset


@admin.register(Observation)
class ObservationAdmin(ReadOnlyAdmin):
    list_display = ["metric", "measured", "grade", "of_what", "device", "complete", "source", "observed"]
    list_select_related = ["run"]
    list_filter = ["metric", "is_complete", "is_bound", SourceFilter]
    search_fields = ["metric", "run__name", "model_name", "device_kind", "source_file"]
    actions = ["complete_chosen"]
    fieldsets = [
        (None, {"fields": ["metric", "measured", "grade", "is_complete", "of_run", "observed", "changed"]}),
        (
            "What was trained or scored",
            {
                "fields": [
                    "model_name", "model_shape", "parameter_count", "recipe", "precision", "lora_rank",
                    "lora_modules", "trainable_parameters", "optimizer", "compiled", "activation_checkpointing",
                    "activation_offloading", "attention", "loss_chunks",
                ]
            },
        ),
        (
            "On what",
            {
                "fields": [
                    "rows", "batch_size", "gradient_accumulation_steps", "max_seq_len", "packed", "epochs",
                    "max_steps_per_epoch", "has_step_cap", "steps_per_epoch", "tokens_per_step",
                    "squares_per_step", "longest_batch_tokens", "longest_sequence",
                ]
            },
        ),
        (
            "By what",
            {"fields": ["device_kind", "device_memory_mib", "world_size", "cpu_threads", "co_runners", "software"]},
        ),
        ("Who said what", {"fields": ["told_by", "completed_by", "conditions_said"]}),
        ("Where it was read", {"fields": ["source_tree", "source_file", "source_line", "fingerprint"]}),
    ]  # fmt: skip
    change_form_before_template = "admin/experiments/observation/incomplete.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return person(request).has_perm("experiments.add_observation")

    def has_complete_permission(self, request: HttpRequest) -> bool:
        return person(request).has_perm("experiments.change_observation")

    def pages(self) -> list[Page]:
        return [("complete/", "complete", self.complete_view)]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        observation = self.get_object(request, object_id)
        context: dict[str, Any] = {"may_complete": self.has_complete_permission(request)}
        if observation is not None and observation.source_tree and not observation.is_complete:
            alike = Observation.objects.filter(is_complete=False, source_tree=observation.source_tree)
            context["in_its_tree"] = alike.count()
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Tell a figure."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = FigureForm(request.POST or None)
        told = _told(form, request) if form.is_valid() else None
        if told is None:
            return self.page(request, "admin/experiments/observation/add.html", "Tell a figure", form=form)
        messages.success(request, f"{told} is kept, told by {told.told_by}.")
        return redirect(url_of(told))

    def complete_view(self, request: HttpRequest) -> HttpResponse:
        """Say the conditions of some observations (`ids`) or of all that were harvested together (`tree`)."""
        if not self.has_complete_permission(request):
            raise PermissionDenied("Completing needs the permission experiments.change_observation.")
        form = CompletionForm(request.POST or request.GET, is_posted=request.method == "POST")
        chosen = form.chosen()
        if request.method == "POST" and form.is_valid() and chosen and _completed(form, chosen, request):
            return redirect(reverse("admin:experiments_observation_changelist"))
        return self._completion_page(request, form, chosen)

    @admin.action(description="Complete what is not known of them", permissions=["complete"])
    def complete_chosen(self, request: HttpRequest, queryset: QuerySet[Observation]) -> HttpResponse:
        ids = list(queryset.filter(is_complete=False).values_list("pk", flat=True))
        form = CompletionForm({"ids": ",".join(map(str, ids))}, is_posted=False)
        return self._completion_page(request, form, form.chosen())

    @admin.display(description="Value", ordering="value")
    def measured(self, observation: Observation) -> str:
        bound = "at least " if observation.is_bound else ""
        return f"{bound}{display.number(observation.value)} {observation.unit}".rstrip()

    @admin.display(description="Is", ordering="told_by")
    def grade(self, observation: Observation) -> str:
        if observation.told_by:
            return f"told by {observation.told_by}"
        return "a bound" if observation.is_bound else "measured"

    @admin.display(description="Model", ordering="model_name")
    def of_what(self, observation: Observation) -> SafeString:
        return display.clipped(observation.model_name or observation.model_shape)

    @admin.display(description="Device", ordering="device_kind")
    def device(self, observation: Observation) -> SafeString:
        return display.clipped(observation.device_kind)

    @admin.display(description="Complete", ordering="is_complete")
    def complete(self, observation: Observation) -> SafeString:
        return display.completeness(observation.incomplete_because)

    @admin.display(description="Run or source")
    def source(self, observation: Observation) -> str | SafeString:
        if observation.run:
            return self.of_run(observation)
        line = f":{observation.source_line}" if observation.source_line else ""
        return display.clipped(f"{observation.source_file}{line}")

    @admin.display(description="Run", ordering="run")
    def of_run(self, observation: Observation) -> str | SafeString:
        run = observation.run
        return display.link(url_of(run), run.name) if run else display.NOTHING

    @admin.display(description="Conditions that a person said")
    def conditions_said(self, observation: Observation) -> str:
        return display.pairs(observation.said)

    @admin.display(description="Observed", ordering="observed_at")
    def observed(self, observation: Observation) -> str:
        return display.when(observation.observed_at)

    @admin.display(description="Recorded or completed", ordering="changed_at")
    def changed(self, observation: Observation) -> str:
        return display.when(observation.changed_at)

    def _completion_page(
        self, request: HttpRequest, form: CompletionForm, chosen: Sequence[Observation]
    ) -> HttpResponse:
        return self.page(
            request,
            "admin/experiments/observation/complete.html",
            "Complete observations",
            form=form,
            shown=chosen[:SHOWN],
            total=len(chosen),
        )


def _told(form: FigureForm, request: HttpRequest) -> Observation | None:
    """The observation that a person told, or the reasons on the form why there is none."""
    by = person(request).get_username()
    try:
        return telling.tell(**form.cleaned_data, by=by, now=timezone.now())
    except InvalidDocument as invalid:
        form.refuse(invalid.problems)
        return None


def _completed(form: CompletionForm, chosen: Sequence[Observation], request: HttpRequest) -> bool:
    by, said = person(request).get_username(), form.cleaned_data["said"]
    try:
        count = telling.complete(observations=chosen, said=said, by=by, now=timezone.now())
    except InvalidDocument as invalid:
        form.refuse(invalid.problems)
        return False
    messages.success(request, f"{count} of {len(chosen)} observations are complete.")
    return True
