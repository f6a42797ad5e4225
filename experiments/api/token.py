"""A token for a name and a password, at a pace that makes guessing useless."""

import hashlib
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework.parsers import FormParser, JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from experiments.api.errors import BodyTooLarge

MAX_BODY_BYTES = 4096


class ByAddress(SimpleRateThrottle):
    """By the peer's address, not by X-Forwarded-For, which anybody can write."""

    rate = "10/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return f"token-address-{request.META.get('REMOTE_ADDR', '')}"


class ByAccount(SimpleRateThrottle):
    rate = "10/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        data = request.data
        username = str(data.get("username", "")) if isinstance(data, Mapping) else ""
        return f"token-account-{hashlib.sha256(username.encode(errors='replace')).hexdigest()}"


class ObtainToken(ObtainAuthToken):
    parser_classes = (JSONParser, FormParser)
    throttle_classes = (ByAddress, ByAccount)

    @extend_schema(
        request=AuthTokenSerializer,
        responses=inline_serializer("Token", {"token": serializers.CharField()}),
        auth=[],
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Exchange a user name and a password for a token; send it as `Authorization: Token ...`."""
        return super().post(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Anybody may post here, and a parser reads whatever it is sent.
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
        super().initial(request, *args, **kwargs)
