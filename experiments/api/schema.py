"""The experiment document's schema: as JSON Schema, and as OpenAPI understands it. There is one, translated."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from experiments import documents
from experiments.api.permissions import MayViewExperiments

_NULL = {"type": "null"}


class DocumentSchema(APIView):
    permission_classes = [MayViewExperiments]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """The JSON Schema of an experiment document, for editors and checks of one's own."""
        return Response(documents.json_schema())


def document_schema() -> dict[str, Any]:
    schema = documents.json_schema()
    parts = schema.pop("$defs", {})
    translated: dict[str, Any] = _openapi(schema, parts)
    return translated


def _openapi(node: Any, parts: Mapping[str, Any]) -> Any:
    """OpenAPI 3.0 has no $defs, no type null, no const, no patternProperties, and exclusive bounds are flags there."""
    if isinstance(node, list):
        return [_openapi(item, parts) for item in node if item != _NULL]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _openapi(parts[node["$ref"].rsplit("/", 1)[-1]], parts)
    translated = {key: _openapi(value, parts) for key, value in node.items()}
    if _NULL in node.get("anyOf", []):
        translated["nullable"] = True
    return _keywords(translated, node)


def _keywords(translated: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    if "patternProperties" in node:
        (translated["additionalProperties"],) = translated.pop("patternProperties").values()
    if "const" in node:
        translated["enum"] = [translated.pop("const")]
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in node:
            translated |= {bound.lower(): node[f"exclusive{bound}"], f"exclusive{bound}": True}
    return translated
