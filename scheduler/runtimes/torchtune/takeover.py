"""What a fine-tune takes over from an earlier job of the same run: its whole epochs, or nothing.

`resume.json` names the earlier jobs' folders, the newest first. All that is taken lies in this job's own folder
afterwards, and is verified there, so that nothing that still writes to the earlier one can change it: the state, which
torchtune overwrites at every epoch, is copied; the folders of epochs, which it writes once, are linked. The state is
written after all else of its epoch, so what it says is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

STATE = Path("recipe_state") / "recipe_state.pt"
STEPS = Path("logs") / "taken_over.txt"
RECORD = "resumed.json"
_STATE_KEYS = ("optimizer", "epochs_run", "total_epochs", "seed", "max_steps_per_epoch")
_STEP = re.compile(r"^Step (\d+) \| (?:.* )?loss:")
_LINE = re.compile(r"^Step (\d+) \| ")


class Doubt(Exception):
    """Why an earlier job's checkpoint is not gone on from."""


@dataclass(frozen=True)
class TakenOver:
    source: str | None  # the earlier job's folder; None: nothing was taken, and it begins anew
    epochs: int
    steps: int
    doubts: tuple[str, ...]  # of jobs that were passed over


@dataclass(frozen=True)
class Request:
    """What scheduler.programs.resuming wrote."""

    recipe: str
    output: str
    epochs: int
    steps_per_epoch: int
    keep_all: bool  # earlier epochs, too
    earlier: tuple[str, ...]
    doubts: tuple[str, ...]


def read_request(path: Path) -> Request:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Request(**{**found, "earlier": tuple(found["earlier"]), "doubts": tuple(found["doubts"])})


def take_over(request: Request) -> TakenOver:
    """From the first job that leaves something whole. What was done is written down, and printed."""
    doubts = list(request.doubts)
    for folder in request.earlier:
        try:
            epochs = _take(Path(folder) / "output", request)
        except (Doubt, OSError) as doubt:
            doubts.append(f"{Path(folder).name}: {doubt}")
            _remove(Path(request.output))
            continue
        steps = epochs * request.steps_per_epoch
        return _noted(request, TakenOver(folder, epochs, steps, tuple(doubts)))
    return _noted(request, TakenOver(None, 0, 0, tuple(doubts)))


def weight_files(output: Path, epoch: int) -> list[str]:
    """Of a full fine-tune, beneath its output folder."""
    index = json.loads((output / f"epoch_{epoch}" / "model.safetensors.index.json").read_text())
    return [f"epoch_{epoch}/{name}" for name in sorted(set(index["weight_map"].values()))]


def _take(earlier: Path, request: Request) -> int:
    output = Path(request.output)
    epochs = _take_state(earlier, output, request)
    for epoch in range(epochs) if request.keep_all else [epochs - 1]:
        _take_folder(earlier / f"epoch_{epoch}", output / f"epoch_{epoch}")
    _verify_result(output / f"epoch_{epochs - 1}", request)
    _take_steps(earlier, output, epochs * request.steps_per_epoch)
    return epochs


def _take_state(earlier: Path, output: Path, request: Request) -> int:
    source, copied = earlier / STATE, output / STATE
    if not _is_file(source):
        raise Doubt("it left no state of a whole epoch.")
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copied)
    _verify(copied)
    state = _loaded(copied)
    missing = [key for key in _STATE_KEYS if key not in state]
    epochs = state.get("epochs_run")
    if missing or not isinstance(epochs, int) or not 0 < epochs < request.epochs:
        raise Doubt(f"its state makes no sense: epochs_run is {epochs!r}, missing is {missing}.")
    return epochs


def _loaded(path: Path) -> Mapping[str, Any]:
    """Tensors and plain values only: a pickle with anything else in it is refused."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever is in the file
        raise Doubt(f"{path.name} cannot be loaded: {error}") from error
    if not isinstance(state, dict):
        raise Doubt(f"{path.name} holds no state.")
    return state


def _take_folder(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_dir():
        raise Doubt(f"{source.name} is not there.")
    for file in sorted(source.rglob("*")):
        if file.is_dir() and not file.is_symlink():
            continue
        if not _is_file(file):
            raise Doubt(f"{source.name}/{file.name} is no file.")
        taken = target / file.relative_to(source)
        taken.parent.mkdir(parents=True, exist_ok=True)
        _link(file, taken)
        _verify(taken)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target, follow_symlinks=False)


def _verify_result(folder: Path, request: Request) -> None:
    """What torchtune loads."""
    if not request.recipe.startswith("full_"):
        wanted = ["adapter_model.pt", "adapter_model.safetensors", "adapter_config.json"]
    else:
        try:
            wanted = [Path(name).name for name in weight_files(folder.parent, int(folder.name[6:]))]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise Doubt(f"{folder.name} has no index of its weights: {error!r}.") from error
    missing = [name for name in wanted if not _is_file(folder / name)]
    if missing:
        raise Doubt(f"{folder.name} lacks {', '.join(missing)}.")


def _verify(path: Path) -> None:
    """Whole: torch's files are zip archives with sums, and safetensors say how long they are."""
    try:
        whole = {".pt": _is_whole_archive, ".safetensors": _is_whole_safetensors}.get(path.suffix)
        if whole is not None and not whole(path):
            raise Doubt(f"{path.parent.name}/{path.name} is damaged.")
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Doubt(f"{path.parent.name}/{path.name} is damaged: {error}") from error


def _is_whole_archive(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def _is_whole_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)


def _take_steps(earlier: Path, output: Path, steps: int) -> None:
    """The metrics of the epochs that are taken over, apart from those that this job will write."""
    lines = list(_lines_up_to(earlier, steps))
    found = [int(match[1]) for line in lines if (match := _STEP.match(line))]
    if found != list(range(1, steps + 1)):
        raise Doubt(f"its metrics do not have each of the first {steps} steps once.")
    target = output / STEPS
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(lines), encoding="utf-8")


def _lines_up_to(earlier: Path, steps: int) -> Iterable[str]:
    newest = sorted((earlier / "logs").glob("log_*.txt"))[-1:]
    for path in [earlier / STEPS, *newest]:
        if not _is_file(path):
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            match = _LINE.match(line)
            if match and line.endswith("\n") and int(match[1]) <= steps:
                yield line


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _remove(output: Path) -> None:
    for path in (*output.glob("epoch_*"), (output / STATE).parent):
        shutil.rmtree(path, ignore_errors=True)
    (output / STEPS).unlink(missing_ok=True)


def _noted(request: Request, taken: TakenOver) -> TakenOver:
    output = Path(request.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / RECORD).write_text(json.dumps(asdict(taken), indent=1), encoding="utf-8")
    print(f"Taken over: {json.dumps(asdict(taken))}", flush=True)
    return taken
