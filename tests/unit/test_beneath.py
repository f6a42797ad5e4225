"""A job may replace its files by links to what only the service can read."""

import os
from pathlib import Path

import pytest

from experiments.beneath import open_beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root" / "run").mkdir(parents=True)
    return tmp_path / "root"


def test_a_plain_file_is_opened(root: Path) -> None:
    (root / "run" / "log").write_text("text")
    with open_beneath(root, root / "run" / "log") as file:
        assert file.read() == b"text"


def test_a_link_to_a_file_is_not_followed(root: Path) -> None:
    (root / "run" / "log").symlink_to(root.parent / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        open_beneath(root, root / "run" / "log")


def test_a_link_to_a_folder_is_not_followed(root: Path) -> None:
    (root / "other").symlink_to(root.parent)
    with pytest.raises(OSError, match="Not a directory"):
        open_beneath(root, root / "other" / "secret")


@pytest.mark.parametrize("path", ["../secret", "run/../../secret"])
def test_a_way_up_leads_nowhere(root: Path, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        open_beneath(root, root / path)


def test_a_pipe_does_not_hang_its_reader(root: Path) -> None:
    os.mkfifo(root / "run" / "log")
    with open_beneath(root, root / "run" / "log") as file:
        assert file.read() == b""
