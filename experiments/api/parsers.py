"""The body of a request as an experiment document: JSON or YAML, never more than a document may have."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.utils import json as strict_json

from experiments import documents
from experiments.api.errors import BodyTooLarge
from experiments.documents import MAX_DOCUMENT_BYTES, MAX_PROBLEMS, InvalidDocument, Problem

_NOTHING = "Leave it out: this takes no values."


class _DocumentParser(BaseParser):
    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        # Parsers read the stream itself, which Django's DATA_UPLOAD_MAX_MEMORY_SIZE does not bound.
        body = stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(body) > MAX_DOCUMENT_BYTES:
            raise BodyTooLarge(f"The document is larger than {MAX_DOCUMENT_BYTES} bytes. Shorten it.")
        try:
            return documents.storable(self.load(body.decode()))
        except UnicodeDecodeError as error:
            raise ParseError("The document is not UTF-8 text.") from error
        except RecursionError as error:
            raise ParseError("The document is nested too deeply.") from error
        except ValueError as error:
            raise _refused(f"It has a value that cannot be read: {error}.", "Correct it.") from error

    def load(self, text: str) -> dict[str, Any]:
        raise NotImplementedError


class JsonDocumentParser(_DocumentParser):
    """JSON is not read as YAML, which takes 1e-3 for text."""

    media_type = "application/json"

    def load(self, text: str) -> dict[str, Any]:
        try:
            data = strict_json.loads(text)
        except ValueError as error:
            raise _refused(f"It is not JSON: {error}.", "Correct the line named.") from error
        if not isinstance(data, dict):
            raise _refused("It is not a mapping of keys to values.", 'Begin with {"name": ...}.')
        return data


class YamlDocumentParser(_DocumentParser):
    media_type = "application/yaml"

    def load(self, text: str) -> dict[str, Any]:
        return documents.load(text)


class TextYamlDocumentParser(YamlDocumentParser):
    media_type = "text/yaml"


DOCUMENT_PARSERS = [JsonDocumentParser, YamlDocumentParser, TextYamlDocumentParser]


def given_document(request: Request) -> dict[str, Any]:
    assert isinstance(request.data, dict)  # of the parsers above, or empty
    return request.data


def require_no_body(request: Request) -> None:
    """Of what there is nothing to say to. Raises InvalidDocument: who says more means something that would not happen."""
    data = request.data
    if isinstance(data, Mapping):
        keys = list(data)[:MAX_PROBLEMS]
        problems = [Problem(str(key), f"Unknown key {key!r:.100}.", _NOTHING) for key in keys]
    else:
        problems = [Problem("", "It is not a mapping of keys to values.", _NOTHING)] if data else []
    if problems:
        raise InvalidDocument(problems)


def _refused(message: str, remedy: str) -> InvalidDocument:
    return InvalidDocument([Problem("", message, remedy)])
