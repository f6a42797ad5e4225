"""Clients of the API, signed in as people are: with a token."""

from typing import TYPE_CHECKING, Any

from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

if TYPE_CHECKING:
    from django.contrib.auth.models import User

API = "/api/v1"


def client_of(user: "User") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.get_or_create(user=user)[0].key}")
    return client


def simulated(name: str = "sleep", **changes: Any) -> dict[str, Any]:
    return {"name": name, "simulated": {"duration_seconds": 1}, "factors": {"seed": [0, 1]}} | changes
