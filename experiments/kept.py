"""Which epoch's checkpoint of a fine-tune is its result, as `output/kept.json` in its directory says.

It is written before anything is removed, so that a removal that was cut short goes on with the same one. Epochs are
counted from 0, as torchtune does.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.beneath import open_beneath, write_beneath

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_KEPT = "kept.json"
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Kept:
    epoch: int
    checkpoint_mib: float  # what the epoch's folder took before anything was removed


def read(run_directory: Path, *, epochs: int) -> Kept | None:
    """What was written down; None where nothing was, or nothing that makes sense."""
    try:
        with open_beneath(run_directory, run_directory / "output" / _KEPT) as file:
            found = json.load(file)
        kept = Kept(int(found["epoch"]), float(found["checkpoint_mib"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return kept if 0 <= kept.epoch < epochs else None


def write(run_directory: Path, *, epoch: int) -> Kept:
    size = sum(
        file.lstat().st_size
        for file in (run_directory / "output" / f"epoch_{epoch}").rglob("*")
        if file.is_file() and not file.is_symlink()
    )
    kept = Kept(epoch, size / _MIB)
    write_beneath(run_directory, run_directory / "output" / _KEPT, json.dumps(asdict(kept)))
    return kept


def result_directory(run_directory: Path, *, epochs: int) -> Path:
    """Where the kept epoch lies: the adapter, or all weights of a full fine-tune. The last one where nothing is noted."""
    kept = read(run_directory, epochs=epochs)
    return run_directory / "output" / f"epoch_{kept.epoch if kept else epochs - 1}"
