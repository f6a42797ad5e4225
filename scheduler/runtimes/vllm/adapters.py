"""Is an adapter whole, and made for this base model?

vLLM must not be given one that is not. Some take the engine down at the next request; one of another base's shape, or
with a layer too many, is taken without a word (measured with 0.32.0) and gives wrong answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from entries import EntryFailed

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM allows as max_lora_rank
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
PLAIN_TYPES = {"F32", "F16", "BF16"}  # a quantized base packs its weights, so that their shapes say nothing
Header = dict[str, dict[str, Any]]


def allowed_rank(largest: int) -> int:
    for rank in RANKS:
        if rank >= largest:
            return rank
    raise ValueError(f"vLLM has no adapters of rank {largest}: {RANKS[-1]} is the largest.")


def check(directory: Path, base: Path, max_rank: int | None) -> None:
    """Raise EntryFailed unless the folder holds a whole LoRA adapter that fits the base model and the engine."""
    rank = _rank(directory / "adapter_config.json")
    if max_rank is None or rank > max_rank:
        raise _invalid(
            f"The adapter in {directory} has rank {rank}; this engine was started for {max_rank or 'none'}."
        )
    weights = directory / "adapter_model.safetensors"
    header = _whole_header(weights)
    _check_shapes(directory, header, _base_header(base), rank)
    _check_finite(weights)


def _rank(path: Path) -> int:
    try:
        rank = json.loads(path.read_text(encoding="utf-8"))["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _invalid(f"The adapter's rank could not be read from {path}: {error!r}") from error
    if not isinstance(rank, int) or rank < 1:
        raise _invalid(f"{path} gives {rank!r} as rank (r): it must be a whole number of at least 1.")
    return rank


def _whole_header(path: Path) -> Header:
    """The file must be as long as its header says: a copy that was cut short still has a good header."""
    try:
        header, start = _read_header(path)
        expected = start + max(tensor["data_offsets"][1] for tensor in header.values())
        size = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _invalid(f"The adapter's weights could not be read from {path}: {error}") from error
    if size != expected:
        raise _invalid(
            f"{path} has {size} bytes where its header promises {expected}: it was not written whole."
        )
    return header


def _read_header(path: Path) -> tuple[Header, int]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(min(length, path.stat().st_size)))
    header.pop("__metadata__", None)
    return header, 8 + length


def _base_header(base: Path) -> Header:
    merged: Header = {}
    for path in sorted(base.glob("*.safetensors")):
        merged |= _read_header(path)[0]
    plain = all(tensor["dtype"] in PLAIN_TYPES for tensor in merged.values())
    return merged if plain else {}


def _check_shapes(directory: Path, adapter: Header, base: Header, rank: int) -> None:
    for name in adapter if base else ():
        if not name.endswith((DOWN, UP)):
            continue
        module = name.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP)
        if f"{module}.weight" not in base:
            raise _invalid(
                f"The adapter in {directory} changes {module}, which the base model does not have."
            )
        outputs, inputs = base[f"{module}.weight"]["shape"]
        wanted = [rank, inputs] if name.endswith(DOWN) else [outputs, rank]
        if adapter[name]["shape"] != wanted:
            told = f"{name} has shape {adapter[name]['shape']} where {wanted} fits"
            raise _invalid(f"The adapter in {directory} is not one for this base model: {told}.")


def _check_finite(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    for name, tensor in load_file(path).items():
        if not torch.isfinite(tensor).all():
            raise _invalid(f"{path} holds values that are not finite, in {name}: its training went wrong.")


def _invalid(message: str) -> EntryFailed:
    return EntryFailed("ADAPTER_INVALID", message)
