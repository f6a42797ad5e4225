"""Base models: those that were declared, and directories under a model root."""

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from experiments.catalogue.errors import NotFound, what_is_there
from experiments.documents import Problem
from experiments.models import BaseModel
from experiments.verification import ModelFacts, VerificationError, read_model, resolve_under


@dataclass(frozen=True)
class FoundModel:
    name: str
    path: Path
    facts: ModelFacts

    @property
    def tokenizer_file(self) -> Path:
        """The one that torchtune reads."""
        return self.path / "original" / "tokenizer.model"


def find_model(name: str) -> FoundModel:
    """The model of this name, verified now: a known one, or a directory under a model root. Raises NotFound."""
    known = BaseModel.objects.filter(name=name).first()
    named = known.path if known else name
    try:
        path = resolve_under(named, settings.MODEL_ROOTS)
    except VerificationError as error:
        message = f"Model {name!r}: {error.message}"
        raise NotFound(Problem("factors.model", message, _how_to_get(named))) from error
    try:
        return FoundModel(name, path, read_model(path, roots=settings.MODEL_ROOTS))
    except VerificationError as error:
        message = f"Model {name!r}: {error.message}"
        raise NotFound(Problem("factors.model", message, error.remedy)) from error


def record_model(found: FoundModel, *, now: datetime) -> BaseModel:
    model, _ = BaseModel.objects.update_or_create(
        name=found.name,
        defaults={
            "path": str(found.path),
            "architecture": found.facts.architecture,
            "parameter_count": found.facts.parameter_count,
            "config": dict(found.facts.config),
            "shape": found.facts.shape,
            "tokenizer_hash": found.facts.tokenizer_hash,
            "content_hash": found.facts.content_hash,
            "problem": "",
            "verified_at": now,
        },
    )
    return model


def _how_to_get(name: str) -> str:
    """`organization/model` is its repository; of a bare name only the model is known."""
    repository = shlex.quote(name) if "/" in name and not name.startswith("/") else "<repository>"
    target = shlex.quote(str(settings.MODEL_ROOTS[0] / Path(name.strip("/")).name))
    there = what_is_there(name, settings.MODEL_ROOTS)
    return f"{there} Or download it: hf download {repository} --local-dir {target}"
