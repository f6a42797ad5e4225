"""Django model permissions, of which reading needs one, too."""

from django.contrib.auth.models import AbstractUser
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request

_VIEW = ["%(app_label)s.view_%(model_name)s"]
_READING = {"GET": _VIEW, "HEAD": _VIEW, "OPTIONS": _VIEW}


class ModelPermissions(DjangoModelPermissions):
    """view to read, add to POST, change to PUT and PATCH."""

    perms_map = {**DjangoModelPermissions.perms_map, **_READING}


class MayView(DjangoModelPermissions):
    """For actions on what exists: who may see it may ask, and the domain decides whether it is done."""

    perms_map = dict.fromkeys(["GET", "HEAD", "OPTIONS", "POST"], _VIEW)


def acting_user(request: Request) -> AbstractUser:
    assert isinstance(request.user, AbstractUser)  # the permission classes let nobody else in
    return request.user
