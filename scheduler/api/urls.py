from django.urls import re_path
from rest_framework.routers import SimpleRouter

from experiments.api.urls import ONE
from scheduler.api.reruns import RerunView
from scheduler.api.runs import RunViewSet
from scheduler.api.steering import QueueViewSet
from scheduler.api.views import DeviceViewSet, JobViewSet, NodeViewSet

router = SimpleRouter()
router.register("runs", RunViewSet)
router.register("jobs", JobViewSet)
router.register("devices", DeviceViewSet)
router.register("nodes", NodeViewSet)
router.register("queue", QueueViewSet, basename="queue")

urlpatterns = [re_path(f"^{ONE}/rerun/$", RerunView.as_view(), name="rerun"), *router.urls]
