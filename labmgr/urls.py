from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import APIRootView

from experiments.api.urls import router as experiments_router
from scheduler.api.urls import router as scheduler_router

LISTS = {
    prefix: f"{name}-list"
    for router in (experiments_router, scheduler_router)
    for prefix, _, name in router.registry
}

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    path("api/v1/", APIRootView.as_view(api_root_dict=LISTS), name="api-root"),
    path("api/v1/", include("experiments.api.urls")),
    path("api/v1/", include("scheduler.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
]
