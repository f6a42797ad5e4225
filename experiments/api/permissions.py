"""Django model permissions, of which reading needs one, too."""

from django.contrib.auth.models import AbstractUser
from rest_framework.permissions import BasePermission, DjangoModelPermissions
from rest_framework.request import Request
from rest_framework.views import APIView

_VIEW = ["%(app_label)s.view_%(model_name)s"]
_READING = {"GET": _VIEW, "HEAD": _VIEW, "OPTIONS": _VIEW}


class ModelPermissions(DjangoModelPermissions):
    """view to read, add to POST, change to PUT and PATCH."""

    perms_map = {**DjangoModelPermissions.perms_map, **_READING}


class MayChange(DjangoModelPermissions):
    """For actions that change what exists."""

    perms_map = dict.fromkeys(["POST"], ["%(app_label)s.change_%(model_name)s"])


class MayViewExperiments(BasePermission):
    """For what belongs to experiments and has no permissions of its own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.has_perm("experiments.view_experiment"))


class MayView(DjangoModelPermissions):
    """For actions on what exists: who may see it may ask, and the domain decides whether it is done."""

    perms_map = dict.fromkeys(["GET", "HEAD", "OPTIONS", "POST"], _VIEW)


def acting_user(request: Request) -> AbstractUser:
    assert isinstance(request.user, AbstractUser)  # the permission classes let nobody else in
    return request.user
