from rest_framework.routers import SimpleRouter

from scheduler.api.runs import RunViewSet
from scheduler.api.steering import QueueViewSet
from scheduler.api.views import DeviceViewSet, JobViewSet, NodeViewSet

router = SimpleRouter()
router.register("runs", RunViewSet)
router.register("jobs", JobViewSet)
router.register("devices", DeviceViewSet)
router.register("nodes", NodeViewSet)
router.register("queue", QueueViewSet, basename="queue")

urlpatterns = router.urls
