"""Paths under the declared roots; links are not followed out of them."""

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from experiments.verification.errors import VerificationError

LISTED_DEPTH = 3
MOST_LISTED = 1000
MOST_RESEMBLING = 3
_HASH_BLOCK_BYTES = 1024 * 1024


def resolve_under(path: str | Path, roots: Iterable[Path]) -> Path:
    """The path with its links resolved, if it lies under one of the declared roots."""
    roots = [root.resolve() for root in roots]
    for candidate in _candidates(Path(path), roots):
        resolved = _resolved(candidate)
        if resolved is not None and any(resolved.is_relative_to(root) for root in roots):
            return resolved
    listed = ", ".join(str(root) for root in roots)
    raise VerificationError(
        f"{str(path)!r} is not there under the declared roots ({listed}).",
        "Put it there, or declare its root.",
    )


def creatable_under(path: str | Path, roots: Iterable[Path]) -> Path | None:
    """Where a file of this path could be made under one of the roots; None where something is there, or outside."""
    roots = [root.resolve() for root in roots]
    for candidate in _candidates(Path(path), roots):
        folder = candidate.parent.resolve()
        target = folder / candidate.name
        if (
            any(folder.is_relative_to(root) for root in roots)
            and not target.is_symlink()
            and not target.exists()
        ):
            return target
    return None


def available(roots: Iterable[Path]) -> list[str]:
    """What lies under the roots, as one would name it: files and checkpoint directories, a few folders deep."""
    return sorted({name for root in roots for name in _listed(root)})


def resembling(name: str, roots: Iterable[Path]) -> list[str]:
    """The names under the roots that are nearest to this one, the nearest first."""
    names = available(roots)
    wanted = Path(name).name.lower()
    by_last_part: dict[str, list[str]] = {}
    for known in names:
        by_last_part.setdefault(Path(known).name.lower(), []).append(known)
    close = difflib.get_close_matches(wanted, by_last_part, n=MOST_RESEMBLING)
    return [known for part in close for known in by_last_part[part]][:MOST_RESEMBLING]


def file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def folder_hash(files: Sequence[Path]) -> str:
    """Of the names and contents of its files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def _candidates(path: Path, roots: Sequence[Path]) -> list[Path]:
    return [path] if path.is_absolute() else [root / path for root in roots]


def _resolved(path: Path) -> Path | None:
    """None also for what the file system refuses to look up, such as a name that is too long."""
    try:
        return path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None


def _listed(root: Path) -> list[str]:
    found: list[str] = []
    for path in _walk(root, LISTED_DEPTH):
        found.append(str(path.relative_to(root)))
        if len(found) == MOST_LISTED:
            break
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """A checkpoint directory counts as one thing, and so does what lies deepest."""
    for entry in _entries(folder):
        if depth > 1 and entry.is_dir() and not (entry / "config.json").is_file():
            yield from _walk(entry, depth - 1)
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    except OSError:
        return []
