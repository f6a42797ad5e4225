"""The experiment document as an OpenAPI schema, from the one schema that there is."""

from collections.abc import Mapping
from typing import Any

from experiments.documents import ExperimentDocument

_NULL = {"type": "null"}


def document_schema() -> dict[str, Any]:
    schema = ExperimentDocument.model_json_schema()
    parts = schema.pop("$defs", {})
    translated: dict[str, Any] = _openapi(schema, parts)
    return translated


def _openapi(node: Any, parts: Mapping[str, Any]) -> Any:
    """OpenAPI 3.0 has no $defs, no type null, no const, and exclusive bounds are flags there."""
    if isinstance(node, list):
        return [_openapi(item, parts) for item in node if item != _NULL]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _openapi(parts[node["$ref"].rsplit("/", 1)[-1]], parts)
    translated = {key: _openapi(value, parts) for key, value in node.items()}
    if _NULL in node.get("anyOf", []):
        translated["nullable"] = True
    if "const" in node:
        translated["enum"] = [translated.pop("const")]
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in node:
            translated |= {bound.lower(): node[f"exclusive{bound}"], f"exclusive{bound}": True}
    return translated
