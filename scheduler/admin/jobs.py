from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from experiments import queries
from experiments.admin.base import ReadOnlyAdmin, url_of
from experiments.templatetags import lab as display
from scheduler.models import Job

LOG_LINES = 60


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "title",
        "of_experiment",
        "on_devices",
        "shown_state",
        "ended_how",
        "placed",
        "duration",
    ]
    list_display_links = ["id", "title"]
    list_select_related = ["experiment", "node"]
    list_filter = ["state", "node", ("experiment", AutocompleteSelectFilter)]
    list_filter_submit = True
    search_fields = ["title", "experiment__name", "node__name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        seen: QuerySet[Job] = super().get_queryset(request)
        return seen.select_related("experiment", "node").prefetch_related("leases__device__node")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        return super().change_view(request, object_id, form_url, _context(job) if job else None)

    @admin.display(description="Experiment", ordering="experiment__name")
    def of_experiment(self, job: Job) -> SafeString:
        return display.link(url_of(job.experiment), job.experiment.name)

    @admin.display(description="Devices")
    def on_devices(self, job: Job) -> str:
        return ", ".join(str(lease.device) for lease in job.leases.all()) or job.node.name

    @admin.display(description="State", ordering="state")
    def shown_state(self, job: Job) -> SafeString:
        return display.state_label(job.state, job.message)

    @admin.display(description="Ended", ordering="ending")
    def ended_how(self, job: Job) -> str:
        code = "" if job.exit_code is None else f"exit code {job.exit_code}"
        return ", ".join(part for part in (job.ending, code) if part) or display.NOTHING

    @admin.display(description="Placed", ordering="placed_at")
    def placed(self, job: Job) -> str:
        return display.when(job.placed_at)

    @admin.display(description="Took")
    def duration(self, job: Job) -> str:
        return display.between(job.started_at, job.ended_at)


def _context(job: Job) -> dict[str, Any]:
    return {
        "job": job,
        "launches": job.launches.select_related("run__cell"),
        "leases": job.leases.all(),
        "log": queries.file_tail(job.log_path, LOG_LINES) if job.log_path else "",
    }
