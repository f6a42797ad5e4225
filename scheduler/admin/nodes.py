from datetime import datetime
from typing import cast

from django.contrib import admin
from django.contrib.auth.models import AbstractUser
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from experiments.templatetags import lab as display
from scheduler import draining
from scheduler.admin import readings
from scheduler.admin.draining import DrainableAdmin
from scheduler.draining import Drained
from scheduler.models import Node, NodeQuerySet, SessionState


@admin.register(Node)
class NodeAdmin(DrainableAdmin):
    list_display = ["name", "kind", "renewed", "device_count", "memory", "threads", "takes_jobs", "why_not"]
    list_filter = ["is_simulated", "is_draining"]
    search_fields = ["name"]
    fieldsets = [
        (None, {"fields": ["name", "kind", "pool", "takes_jobs", "drain_message", "device_count"]}),
        ("Given to jobs", {"fields": ["memory", "threads"]}),
        ("Its agent's session", {"fields": ["session_renewed_at", "session_epoch", "boot_id"]}),
    ]

    measured = staticmethod(readings.of_node)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        seen = cast(NodeQuerySet, super().get_queryset(request))
        return seen.with_session_state().annotate(devices_known=Count("devices"))

    def is_withheld(self, row: Node) -> bool:
        return row.is_draining

    def what_is_said(self, row: Node) -> str:
        return row.drain_message

    def drain_rows(self, pks: list[int], *, user: AbstractUser, now: datetime, because: str) -> Drained:
        return draining.drain_nodes(node_ids=pks, user=user, now=now, because=because)

    def undrain_rows(self, pks: list[int], *, user: AbstractUser) -> int:
        return draining.undrain_nodes(node_ids=pks, user=user)

    @admin.display(description="Kind", ordering="is_simulated")
    def kind(self, node: Node) -> str:
        return "simulated" if node.is_simulated else "machine"

    @admin.display(description="Agent last seen", ordering="session_renewed_at")
    def renewed(self, node: Node) -> str:
        seen = node.session_renewed_at
        return f"{display.between(seen, None)} ago" if seen else "never"

    @admin.display(description="Devices", ordering="devices_known")
    def device_count(self, node: Node) -> str:
        return display.number(getattr(node, "devices_known", None))

    @admin.display(description="Memory given")
    def memory(self, node: Node) -> SafeString:
        text = f"{display.mebibytes(node.allocated_host_memory_mib)} of {display.mebibytes(node.host_memory_mib)}"
        return display.bar(node.allocated_host_memory_mib, node.host_memory_mib, text)

    @admin.display(description="Threads given")
    def threads(self, node: Node) -> SafeString:
        text = f"{node.allocated_cpu_threads} of {node.cpu_threads}"
        return display.bar(node.allocated_cpu_threads, node.cpu_threads, text)

    @admin.display(description="Takes jobs", ordering="is_draining")
    def takes_jobs(self, node: Node) -> SafeString:
        """Not while it is drained or its agent is away."""
        session = str(getattr(node, "session_state", SessionState.LIVE))
        if node.is_draining:
            return display.state_label("DRAINED", node.drain_message)
        return display.state_label("AVAILABLE" if session == SessionState.LIVE else session)

    @admin.display(description="Why not")
    def why_not(self, node: Node) -> SafeString:
        return display.clipped(node.drain_message)
