import json
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import AbstractUser
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from experiments import control, queries
from experiments.admin import charts, figures
from experiments.admin.base import LabList, Page, ReadOnlyAdmin, person, sees_observations, url_of
from experiments.admin.pages import may_control
from experiments.models import Observation, Run
from experiments.states import RunKind, RunState
from experiments.templatetags import lab as display
from scheduler.admin import again, dashboard
from scheduler.models import Job, Launch
from scheduler.queries import waiting_reasons

_LAUNCHES = Prefetch(
    "launches",
    Launch.objects.select_related("job__node").prefetch_related("job__leases__device__node").order_by("-id"),
)


class RunList(LabList):
    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Run]:
        """Of each run its last attempt; the earlier ones are named on its page."""
        runs: QuerySet[Run] = super().get_queryset(request, exclude_parameters)
        return runs.filter(superseded_by__isnull=True)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        waits = any(run.state == RunState.QUEUED for run in self.result_list)
        reasons = waiting_reasons() if waits else {}
        for run in self.result_list:
            run.why = reasons.get(run.pk, "")


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = [
        "name",
        "experiment",
        "kind",
        "shown_state",
        "reason_shown",
        "place",
        "started",
        "duration",
    ]
    list_select_related = ["cell__experiment"]
    list_filter = ["state", "kind", ("cell__experiment", AutocompleteSelectFilter)]
    list_filter_submit = True
    search_fields = ["name", "cell__name", "cell__experiment__name"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return Run.every.select_related("cell__experiment").prefetch_related(_LAUNCHES).order_by("-id")

    def pages(self) -> list[Page]:
        return [
            ("dashboard/", "dashboard", dashboard.live_view),
            ("again/<int:pk>/", "again", self.again_view),
            ("queue/pause/", "pause", dashboard.pause_view),
            ("queue/unpause/", "unpause", dashboard.unpause_view),
            ("<int:pk>/live/", "live", self.live_view),
            ("<int:pk>/cancel/", "cancel", self.cancel_view),
            ("<int:pk>/estimates/<slug:metric>/", "evidence", self.evidence_view),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        context = _page_context(run, person(request)) if run else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def live_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that changes while the run lives; when it has ended, the page loads once more."""
        run = self.seen(request, pk)
        response = TemplateResponse(request, "admin/experiments/run/live.html", _live_context(run))
        if run.is_finished:
            response["HX-Refresh"] = "true"
        return response

    def again_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What of an experiment would be run again, and the button that does it."""
        return again.page(self, request, pk)

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        run = self.seen(request, pk)
        if control.cancel_run(run=run, user=person(request), now=timezone.now()):
            messages.success(request, "Cancelled. If it is running, it is being ended.")
        else:
            messages.info(request, "There was nothing to cancel: the run has ended.")
        return redirect(url_of(run))

    def evidence_view(self, request: HttpRequest, pk: int, metric: str) -> HttpResponse:
        """An estimate of the run, with the observations that it rests on."""
        run = self.seen(request, pk)
        (figure,) = figures.of_run([get_object_or_404(run.estimates, metric=metric)])
        chosen = Observation.objects.filter(pk__in=figure["observations"])
        heading = f"{run.name}: {figure['label']}"
        return self.evidence_page(request, of=run, heading=heading, observations=chosen, figure=figure)

    @admin.display(description="Experiment", ordering="cell__experiment__name")
    def experiment(self, run: Run) -> SafeString:
        return display.link(url_of(run.cell.experiment), run.cell.experiment.name)

    @admin.display(description="State", ordering="state")
    def shown_state(self, run: Run) -> SafeString:
        return display.state_label(run.state, run.message)

    @admin.display(description="Reason")
    def reason_shown(self, run: Any) -> SafeString:
        return display.clipped(run.why or run.reason)

    @admin.display(description="Where")
    def place(self, run: Run) -> SafeString:
        launch = next(iter(run.launches.all()), None)
        return display.clipped(_places(launch.job) if launch else "")

    @admin.display(description="Started", ordering="started_at")
    def started(self, run: Run) -> str:
        return display.when(run.started_at)

    @admin.display(description="Took")
    def duration(self, run: Run) -> str:
        return display.between(run.started_at, run.finished_at)


def _places(job: Job) -> str:
    places = ", ".join(lease.device.place for lease in job.leases.all())
    return f"{places} (simulated)" if places and job.node.is_simulated else places


def _live_context(run: Run) -> dict[str, Any]:
    curve = queries.loss_curve(run) if run.kind == RunKind.FINETUNE else []
    return {
        "run": run,
        "why": waiting_reasons().get(run.pk, "") if run.state == RunState.QUEUED else "",
        "launches": run.launches.all(),
        "events": run.events.all(),
        "log": queries.log_tail(run, lines=60) or run.log_tail,
        "curve": charts.curves({run.name: curve}) if curve else "",
    }


def _page_context(run: Run, user: AbstractUser) -> dict[str, Any]:
    return {
        **_live_context(run),
        "may_cancel": may_control(user, run.cell.experiment),
        "sees_observations": sees_observations(user),
        "estimates": figures.of_run(list(run.estimates.all())),
        "spec": json.dumps(run.spec, indent=2, ensure_ascii=False),
        "observations": run.observations.all()[:200],
        "depends_on": run.depends_on,
        "attempts": Run.every.filter(cell=run.cell_id, name=run.name).order_by("attempt"),
    }
