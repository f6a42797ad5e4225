"""What the pages of devices and nodes draw of what was measured."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from experiments.admin import charts
from experiments.admin.base import ReadOnlyAdmin
from scheduler.inventory import series
from scheduler.models import Device, HostReading, Node, Reading

PERIODS = {"1": "hour", "24": "day", "336": "two weeks"}
_GPU: list[tuple[str, str, dict[str, str]]] = [  # title, unit, what is drawn
    ("Memory", "MiB", {"in use": "used_mib", "by others": "foreign_mib"}),
    ("Utilisation", "%", {"utilisation": "utilisation_percent"}),
    ("Temperature", "°C", {"temperature": "temperature_celsius"}),
    ("Power", "W", {"power": "power_watts"}),
]
_HOST: list[tuple[str, str, dict[str, str]]] = [
    ("Host memory in use", "MiB", {"in use": "used_mib"}),
    ("Load", "threads that ran or wanted to", {"load": "load"}),
]
NOTHING = "Nothing was measured in this time."
SIMULATED = "It is simulated: nothing is measured."


class MeasuredAdmin(ReadOnlyAdmin):
    """A page that draws what was measured of its object."""

    change_form_after_template = "admin/scheduler/readings.html"
    measured: Callable[[Any, HttpRequest], dict[str, Any]]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        shown = self.get_object(request, object_id)
        context = {**(extra_context or {}), **(type(self).measured(shown, request) if shown else {})}
        return super().change_view(request, object_id, form_url, context)


def of_device(device: Device, request: HttpRequest) -> dict[str, Any]:
    """A GPU's own; a CPU slot is no part of the machine that could be measured alone, so that shows the machine."""
    if device.kind == Device.Kind.GPU:
        return _shown(request, lambda since: _rows(Reading, since, device=device), _GPU)
    note = "The whole machine: a CPU slot is not bound to a core." if device.kind == Device.Kind.CPU else ""
    return of_node(device.node, request) | ({"readings_note": note} if note else {})


def of_node(node: Node, request: HttpRequest) -> dict[str, Any]:
    if node.is_simulated:
        return {"readings_empty": SIMULATED}
    return _shown(request, lambda since: _rows(HostReading, since, node=node), _HOST)


def _rows(model: Any, since: Any, **of: Any) -> list[Any]:
    return series.recent(model.objects.filter(**of), since=since)


def _shown(request: HttpRequest, read: Callable[[Any], list[Any]], plots: Any) -> dict[str, Any]:
    asked = request.GET.get("hours", "1")
    hours = asked if asked in PERIODS else "1"
    rows = read(timezone.now() - timedelta(hours=int(hours)))
    drawn = [(title, _chart(unit, lines, rows)) for title, unit, lines in plots if _is_told(lines, rows)]
    return {
        "readings": drawn,
        "readings_empty": "" if drawn else NOTHING,
        "periods": list(PERIODS.items()),
        "hours": hours,
    }


def _is_told(lines: dict[str, str], rows: list[Any]) -> bool:
    return any(getattr(row, field) is not None for row in rows for field in lines.values())


def _chart(unit: str, lines: dict[str, str], rows: list[Any]) -> str:
    return charts.over_time(
        unit, {label: [(row.at, getattr(row, field)) for row in rows] for label, field in lines.items()}
    )
