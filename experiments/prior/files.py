"""The logs, metrics files and configurations in a tree."""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1024 * 1024
MAX_DEPTH = 12
CONFIGURATIONS = ("torchtune_config.yaml", "finetune.yaml")
_LOG_ENDINGS = (".out", ".err", ".log")
_METRICS_STEM = "log_"  # torchtune's DiskLogger: log_<unix time>.txt
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe in a log's place must not be waited for


@dataclass(frozen=True)
class Found:
    path: Path
    is_metrics: bool  # a DiskLogger file, and not what was printed
    configuration: Path | None


def find(
    root: Path, *, leave_out: Collection[Path] = (), on_error: Callable[[OSError], None] | None = None
) -> Iterator[Found]:
    """What is worth reading in a file or below a folder, but for what lies in folders to leave out.

    Links are not followed. What cannot be looked into goes to `on_error`.
    """
    if not root.is_dir():
        yield _found(root)
        return
    for folder, folders, names in os.walk(root, onerror=on_error, followlinks=False):
        here = Path(folder)
        if here in leave_out:
            folders.clear()
            continue
        folders.sort()
        if len(here.relative_to(root).parts) >= MAX_DEPTH:
            folders.clear()
        yield from (_found(here / name) for name in sorted(names) if _is_worth_reading(here / name))


def chunks(path: Path) -> Iterator[bytes]:
    """Raises OSError, for what is no regular file, too."""
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _found(path: Path) -> Found:
    return Found(path, _is_metrics(path), _configuration_of(path))


def _is_worth_reading(path: Path) -> bool:
    return (_is_metrics(path) or path.suffix in _LOG_ENDINGS) and not path.is_symlink()


def _is_metrics(path: Path) -> bool:
    number = path.stem.removeprefix(_METRICS_STEM)
    return path.suffix == ".txt" and number != path.stem and number.isdecimal()


def _configuration_of(log: Path) -> Path | None:
    """Beside the log, in the folder above its own, or in `output` below it, where torchtune may have written."""
    places = (log.parent, log.parent / "output", log.parent.parent)
    candidates = (place / name for place in places for name in CONFIGURATIONS)
    return next((path for path in candidates if path.is_file() and not path.is_symlink()), None)
