"""What this machine offers, who uses it, and how it is: read, judged, and written to the rows of its node."""

from scheduler.inventory.nodes import DeviceReading, NodeReading, boot_id, read_node, read_simulated, record

__all__ = ["DeviceReading", "NodeReading", "boot_id", "read_node", "read_simulated", "record"]
