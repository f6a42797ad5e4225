from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import AbstractUser
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from experiments.admin.base import url_of
from experiments.templatetags import lab as display
from scheduler import draining
from scheduler.admin import readings
from scheduler.admin.draining import DrainableAdmin
from scheduler.draining import Drained
from scheduler.models import Device, Lease

HELD = Prefetch(
    "leases", Lease.objects.filter(released_at__isnull=True).select_related("job"), to_attr="held"
)


@admin.register(Device)
class DeviceAdmin(DrainableAdmin):
    list_display = ["place", "kind", "model_name", "shown_state", "memory", "others", "jobs", "why_not"]
    list_select_related = ["node"]
    list_filter = ["state", "kind", "node"]
    search_fields = ["node__name", "uuid", "model_name"]
    fieldsets = [
        (None, {"fields": ["place", "kind", "model_name", "identity", "queue"]}),
        (
            "Now",
            {"fields": ["shown_state", "state_message", "memory", "others", "foreign_use", "busy", "jobs"]},
        ),
    ]
    measured = staticmethod(readings.of_device)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        seen: QuerySet[Device] = super().get_queryset(request)
        return seen.select_related("node").prefetch_related(HELD)

    def is_withheld(self, row: Device) -> bool:
        return row.state in (Device.State.DRAINED, Device.State.QUARANTINED)

    def what_is_said(self, row: Device) -> str:
        return row.state_message if row.state == Device.State.DRAINED else ""

    def drain_rows(self, pks: list[int], *, user: AbstractUser, now: datetime, because: str) -> Drained:
        return draining.drain(device_ids=pks, user=user, now=now, because=because)

    def undrain_rows(self, pks: list[int], *, user: AbstractUser) -> int:
        return draining.undrain(device_ids=pks, user=user)

    @admin.display(description="Device", ordering="node__name")
    def place(self, device: Device) -> str:
        return device.place

    @admin.display(description="UUID", ordering="uuid")
    def identity(self, device: Device) -> str:
        return device.uuid

    @admin.display(description="Queue")
    def queue(self, device: Device) -> str:
        return device.queue_name

    @admin.display(description="State", ordering="state")
    def shown_state(self, device: Device) -> SafeString:
        if device.node.is_draining:
            return display.state_label(Device.State.DRAINED, device.node.drain_message)
        return display.state_label(device.state, device.state_message)

    @admin.display(description="Memory given", ordering="allocated_mib")
    def memory(self, device: Device) -> SafeString:
        text = f"{display.mebibytes(device.allocated_mib)} of {display.mebibytes(device.memory_mib)}"
        return display.bar(device.allocated_mib, device.memory_mib, text)

    @admin.display(description="Used by others", ordering="foreign_mib")
    def others(self, device: Device) -> str:
        return display.mebibytes(device.foreign_mib) if device.foreign_mib else display.NOTHING

    @admin.display(description="Busy, when last looked at")
    def busy(self, device: Device) -> str:
        return display.NOTHING if device.utilisation_percent is None else f"{device.utilisation_percent} %"

    @admin.display(description="Why not all of it")
    def why_not(self, device: Device) -> SafeString:
        told = (device.node.drain_message, device.state_message, device.foreign_use)
        return display.clipped(" ".join(filter(None, told)))

    @admin.display(description="Held by")
    def jobs(self, device: Any) -> str | SafeString:
        links = [display.link(url_of(lease.job), lease.job.title) for lease in device.held]
        return SafeString(", ".join(links)) if links else display.NOTHING
