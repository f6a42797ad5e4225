"""What the domain raises, as responses. The one place that knows."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import exception_handler

from experiments.access import NotApproved
from experiments.control import AlreadyDecided, Unanswered
from experiments.documents import InvalidDocument, Problem
from experiments.lifecycle import NotADraft
from experiments.planning import NameTaken, Outdated
from experiments.rerunning import CannotRerun
from experiments.steering import BadWindow
from experiments.verification import VerificationError


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


def handle(error: Exception, context: Mapping[str, Any]) -> Response | None:
    if isinstance(error, InvalidDocument):
        return _problems(error.problems)
    if isinstance(error, VerificationError):
        return _problems([Problem("path", error.message, error.remedy)])
    if isinstance(error, BadWindow):
        return _problems([Problem("max_parallel", str(error), "")])
    if isinstance(error, AlreadyDecided | CannotRerun | NameTaken | NotADraft | NotApproved | Outdated):
        return Response({"detail": str(error)}, status=status.HTTP_409_CONFLICT)
    if isinstance(error, Unanswered):
        told = {"detail": str(error), "questions": list(error.questions)}
        return Response(told, status=status.HTTP_409_CONFLICT)
    return exception_handler(error, dict(context))


def _problems(problems: list[Problem]) -> Response:
    return Response({"errors": [asdict(problem) for problem in problems]}, status=status.HTTP_400_BAD_REQUEST)
