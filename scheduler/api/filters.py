from django_filters import rest_framework as filters

from experiments.api.filters import LabFilter
from experiments.models import Run
from scheduler.models import Device, Job, Node


class RunFilter(LabFilter):
    experiment = filters.CharFilter("cell__experiment__name")
    cell = filters.CharFilter("cell__name")
    superseded = filters.BooleanFilter("superseded_by", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Run
        fields = ["state", "kind", "reason"]


class JobFilter(LabFilter):
    experiment = filters.CharFilter("experiment__name")
    node = filters.CharFilter("node__name")
    run = filters.NumberFilter("launches__run_id")

    class Meta:
        model = Job
        fields = ["state"]


class DeviceFilter(LabFilter):
    node = filters.CharFilter("node__name")

    class Meta:
        model = Device
        fields = ["state", "kind"]


class NodeFilter(LabFilter):
    class Meta:
        model = Node
        fields = ["name", "is_simulated", "is_draining"]
