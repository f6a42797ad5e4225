"""Jobs, devices and nodes: machines write them, people read them."""

from experiments.api.responses import LabViewSet
from scheduler.api.filters import DeviceFilter, JobFilter, NodeFilter
from scheduler.api.serializers import DeviceSerializer, JobSerializer, NodeSerializer
from scheduler.models import Device, Job, Node


class JobViewSet(LabViewSet[Job]):
    queryset = (
        Job.objects.select_related("node", "experiment")
        .prefetch_related("launches", "leases__device__node")
        .order_by("-id")
    )
    serializer_class = JobSerializer
    filterset_class = JobFilter


class DeviceViewSet(LabViewSet[Device]):
    queryset = Device.objects.select_related("node").order_by("node__name", "index")
    serializer_class = DeviceSerializer
    filterset_class = DeviceFilter


class NodeViewSet(LabViewSet[Node]):
    queryset = Node.objects.order_by("name")
    serializer_class = NodeSerializer
    filterset_class = NodeFilter
