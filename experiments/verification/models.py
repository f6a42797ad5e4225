"""Models: Hugging Face checkpoint directories, whole and what they say they are, without loading them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import shapes, torchtune_builders
from experiments.torchtune_builders import UnsupportedModel
from experiments.verification import llama, safetensors
from experiments.verification.errors import VerificationError
from experiments.verification.paths import file_hash
from experiments.verification.safetensors import Header

MAX_JSON_BYTES = 256 * 1024**2
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ModelFacts:
    architecture: str
    config: Mapping[str, Any]
    parameter_count: int
    content_hash: str  # of the configuration, the safetensors headers and the file sizes
    shape: str = ""  # see experiments.shapes
    tokenizer_hash: str = ""  # of the file that token lengths follow from
    builder: str = ""  # torchtune's; empty where it has none
    not_trainable: str = ""  # why torchtune cannot fine-tune it, as a sentence; empty where it can


def read_model(directory: Path, *, roots: Iterable[Path] | None = None) -> ModelFacts:
    """Facts of a checkpoint. Raises VerificationError for what is missing, broken or contradicts itself.

    Links may lead to anything under the roots; without roots, only to what is in the directory.
    """
    try:
        return _facts(directory, [directory] if roots is None else list(roots))
    except (AttributeError, IndexError, KeyError, TypeError, ZeroDivisionError) as error:
        raise VerificationError(
            f"{directory} is no checkpoint in Hugging Face layout: {error!r}.", "Download it again."
        ) from error


def _facts(directory: Path, roots: list[Path]) -> ModelFacts:
    config = _read_json(_require(directory / "config.json", roots))
    tokenizer = _require(directory / "tokenizer.json", roots)
    headers = _headers(directory, roots)
    if config.get("model_type") == "llama":
        llama.check_tensors(directory, config, _shapes(headers))
        tokenizer = _llama_tokenizer(directory, config, roots)
    builder, not_trainable = _builder(config)
    return ModelFacts(
        architecture=next(iter(config.get("architectures") or []), config.get("model_type", "")),
        config=config,
        parameter_count=sum(safetensors.parameters(header) for header in headers.values()),
        content_hash=_content_hash(config, headers),
        shape=shapes.describe(config),
        tokenizer_hash=file_hash(tokenizer),
        builder=builder,
        not_trainable=not_trainable,
    )


def _llama_tokenizer(directory: Path, config: Mapping[str, Any], roots: list[Path]) -> Path:
    given = directory / "original" / "tokenizer.model"
    if not given.is_file():
        message = f"{given} is missing, and torchtune reads it."
        raise VerificationError(message, "Download the model with its folder 'original'.")
    file = _require(given, roots)
    llama.check_tokenizer(file, config, _read_json(directory / "tokenizer.json"))
    return file


def _builder(config: Mapping[str, Any]) -> tuple[str, str]:
    try:
        return torchtune_builders.builder(config)["_component_"], ""
    except UnsupportedModel as error:
        return "", str(error)


def _headers(directory: Path, roots: list[Path]) -> dict[Path, Header]:
    """The header of each weight file, in order."""
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        _refuse_pickles(directory)
        file = _require(directory / "model.safetensors", roots)
        return {file: safetensors.read_header(file)}
    listed = _read_json(_require(index, roots))
    names = sorted(set(listed["weight_map"].values()))
    headers = {name: safetensors.read_header(_require(directory / Path(name).name, roots)) for name in names}
    _check_index(index, listed, headers)
    return {directory / Path(name).name: header for name, header in headers.items()}


def _refuse_pickles(directory: Path) -> None:
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if pickled and not (directory / "model.safetensors").is_file():
        message = (
            f"{directory} has only pickled weights ({pickled[0]}), which can run code when they are loaded."
        )
        raise VerificationError(message, "Download its safetensors files.")


def _check_index(index: Path, listed: Mapping[str, Any], headers: Mapping[str, Header]) -> None:
    for tensor, name in listed["weight_map"].items():
        if tensor not in headers[name]:
            message = f"{index} looks for {tensor!r} in {name}, where it is not."
            raise VerificationError(message, "Download the directory again.")
    expected = listed.get("metadata", {}).get("total_size")
    found = sum(safetensors.tensor_bytes(header) for header in headers.values())
    if expected is not None and expected != found:
        message = f"{index} says {expected} bytes of tensors, and there are {found}."
        raise VerificationError(message, "Download the directory again.")


def _shapes(headers: Mapping[Path, Header]) -> dict[str, list[int]]:
    return {name: tensor["shape"] for header in headers.values() for name, tensor in header.items()}


def _content_hash(config: Mapping[str, Any], headers: Mapping[Path, Header]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file, header in headers.items():
        digest.update(f"{file.name} {file.stat().st_size} {json.dumps(header, sort_keys=True)}".encode())
    return digest.hexdigest()


def _read_json(path: Path) -> Any:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise VerificationError(f"{path} is larger than {MAX_JSON_BYTES} bytes.", "Download it again.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise VerificationError(f"{path} is not readable JSON: {error}.", "Correct the file.") from error


def _require(path: Path, roots: list[Path]) -> Path:
    """The file, if it is there and no link leads it out of the roots."""
    if not path.is_file():
        raise VerificationError(f"{path} is missing.", "Complete the directory, or download it again.")
    if not any(path.resolve().is_relative_to(root.resolve()) for root in roots):
        message = f"{path} is a link that leads out of the declared roots."
        raise VerificationError(message, "Put the file itself there, or declare the root that it is under.")
    return path
