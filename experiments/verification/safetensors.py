"""Headers of safetensors files: which tensors there are, without loading any."""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from experiments.verification.errors import VerificationError

Header = Mapping[str, Mapping[str, Any]]  # tensor -> dtype, shape, data_offsets

MAX_HEADER_BYTES = 100 * 1024 * 1024
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
_AGAIN = "Download it again."


def read_header(file: Path) -> Header:
    """8 bytes of length (little endian), then that much JSON. Raises VerificationError unless the file is whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 0 < length <= min(size - 8, MAX_HEADER_BYTES):
            raise VerificationError(f"{file} is not a whole safetensors file.", _AGAIN)
        header = _parse(file, stream.read(length))
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if 8 + length + end != size:
        raise VerificationError(f"{file} has {size} bytes where {8 + length + end} were expected.", _AGAIN)
    for name, tensor in header.items():
        _check_tensor(file, name, tensor)
    return header


def parameters(header: Header) -> int:
    return sum(prod(tensor["shape"]) for tensor in header.values())


def tensor_bytes(header: Header) -> int:
    return sum(tensor["data_offsets"][1] - tensor["data_offsets"][0] for tensor in header.values())


def _parse(file: Path, raw: bytes) -> Header:
    try:
        header: dict[str, Any] = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{file} has no readable safetensors header.", _AGAIN) from error
    header.pop("__metadata__", None)
    return header


def _check_tensor(file: Path, name: str, tensor: Mapping[str, Any]) -> None:
    begin, end = tensor["data_offsets"]
    bits = BITS.get(tensor["dtype"])
    if bits is not None and end - begin != prod(tensor["shape"]) * bits // 8:
        message = f"{file}: tensor {name!r} has {end - begin} bytes, not those of {tensor['shape']} {tensor['dtype']}."
        raise VerificationError(message, _AGAIN)
