from django.urls import path
from rest_framework.routers import SimpleRouter

from experiments.api.experiments import ExperimentViewSet
from experiments.api.token import ObtainToken
from experiments.api.views import BaseModelViewSet, CalibrationViewSet, DatasetViewSet, ObservationViewSet

router = SimpleRouter()
router.register("datasets", DatasetViewSet)
router.register("models", BaseModelViewSet)
router.register("experiments", ExperimentViewSet)
router.register("observations", ObservationViewSet)
router.register("calibrations", CalibrationViewSet)

urlpatterns = [path("token/", ObtainToken.as_view(), name="token"), *router.urls]
