"""Reaching into folders that a job wrote: beneath a declared root, without following links.

A job may replace any of its own files by a link to something that only the service can read, or any of its folders by
a link to one that only the service can empty.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def open_beneath(root: Path, path: Path) -> BinaryIO:
    """The file, for reading. Raises OSError for a link on the way and ValueError for a path that is not beneath."""
    with _folder_of(root, path) as descriptor:
        return os.fdopen(os.open(path.name, _FILE, dir_fd=descriptor), "rb")


def write_beneath(root: Path, path: Path, text: str) -> None:
    """Write a file, whole or not at all, in place of what has its name. Raises as `open_beneath` does."""
    temporary = f".{path.name}.new"
    with _folder_of(root, path) as descriptor:
        _remove(temporary, descriptor)
        with os.fdopen(os.open(temporary, _NEW, 0o666, dir_fd=descriptor), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path.name, src_dir_fd=descriptor, dst_dir_fd=descriptor)


def remove_beneath(root: Path, path: Path) -> None:
    """Remove a file, a link itself, or a folder with all in it; nothing where there is none."""
    with _folder_of(root, path) as descriptor:
        _remove(path.name, descriptor)


@contextmanager
def _folder_of(root: Path, path: Path) -> Iterator[int]:
    *folders, name = path.relative_to(root).parts
    if ".." in (*folders, name):
        raise ValueError(f"{path} leads out of {root}.")
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            deeper = os.open(folder, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(name: str, descriptor: int) -> None:
    try:
        mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(name, dir_fd=descriptor)
    else:
        os.unlink(name, dir_fd=descriptor)
