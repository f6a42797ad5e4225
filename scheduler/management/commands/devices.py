import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from scheduler.models import Device, Job


class Command(BaseCommand):
    help = "The devices of all nodes and what they hold."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        devices = [
            _device(device)
            for device in Device.objects.select_related("node").order_by("node__name", "index")
        ]
        if options["json"]:
            self.stdout.write(json.dumps({"devices": devices}, indent=2))
            return
        for device in devices:
            jobs = ", ".join(f"job {job['id']} {job['title']}" for job in device["jobs"]) or "free"
            memory = f"{device['allocated_mib']:,} of {device['memory_mib']:,} MiB"
            place = f"{device['node']}:{device['index']}"
            why_not = " ".join(
                filter(None, (device["node_message"], device["message"], device["foreign_use"]))
            )
            state = "DRAINED" if device["node_is_draining"] else device["state"]
            told = (place, device["kind"], state, memory, jobs, why_not)
            self.stdout.write("  ".join(told).rstrip())


def _device(device: Device) -> dict[str, Any]:
    renewed = device.node.session_renewed_at
    jobs = Job.objects.filter(leases__device=device, leases__released_at__isnull=True)
    return {
        "node": device.node.name,
        "node_is_draining": device.node.is_draining,
        "node_message": device.node.drain_message or None,
        "index": device.index,
        "kind": device.kind,
        "uuid": device.uuid,
        "model": device.model_name,
        "state": device.state,
        "message": device.state_message or None,
        "memory_mib": device.memory_mib,
        "allocated_mib": device.allocated_mib,
        "foreign_mib": device.foreign_mib,
        "foreign_use": device.foreign_use or None,
        "utilisation_percent": device.utilisation_percent,
        "node_renewed_at": renewed.isoformat() if renewed else None,
        "jobs": [{"id": job.pk, "title": job.title, "state": job.state} for job in jobs],
    }
