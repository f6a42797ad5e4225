from django.urls import path
from rest_framework.routers import SimpleRouter

from experiments.api.catalogue import BaseModelViewSet, DatasetViewSet
from experiments.api.evidence import CalibrationViewSet, ObservationViewSet
from experiments.api.experiments import ExperimentViewSet
from experiments.api.plans import LogViewSet, ProposalViewSet
from experiments.api.schema import DocumentSchema
from experiments.api.token import ObtainToken

ONE = f"experiments/(?P<name>{ExperimentViewSet.lookup_value_regex})"

router = SimpleRouter()
router.register("datasets", DatasetViewSet)
router.register("models", BaseModelViewSet)
router.register("experiments", ExperimentViewSet)
router.register(f"{ONE}/log", LogViewSet)
router.register(f"{ONE}/proposals", ProposalViewSet)
router.register("observations", ObservationViewSet)
router.register("calibrations", CalibrationViewSet)

urlpatterns = [
    path("token/", ObtainToken.as_view(), name="token"),
    path("document-schema/", DocumentSchema.as_view(), name="document-schema"),
    *router.urls,
]
