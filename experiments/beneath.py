"""Opening files that a job wrote: beneath a declared root, without following links.

A job may replace any of its own files by a link to something that only the service can read.
"""

import os
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def open_beneath(root: Path, path: Path) -> BinaryIO:
    """The file, for reading. Raises OSError for a link on the way and ValueError for a path that is not beneath."""
    *folders, name = path.relative_to(root).parts
    if ".." in (*folders, name):
        raise ValueError(f"{path} leads out of {root}.")
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            deeper = os.open(folder, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        return os.fdopen(os.open(name, _FILE, dir_fd=descriptor), "rb")
    finally:
        os.close(descriptor)
