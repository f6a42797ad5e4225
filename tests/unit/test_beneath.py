"""A job may replace its files and folders by links to what only the service can read or change."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.beneath import open_beneath, remove_beneath, write_beneath


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


def test_a_file_is_written_in_place_of_a_link_and_not_through_it(root: Path) -> None:
    note = root / "run" / "note"
    note.symlink_to(root.parent / "secret")
    for text in ("first", "second"):
        write_beneath(root, note, text)
        assert (note.is_symlink(), note.read_text()) == (False, text)
    assert (root.parent / "secret").read_text() == "secret"
    assert [path.name for path in (root / "run").iterdir()] == ["note"]


def test_a_folder_is_removed_with_its_links_and_without_what_they_point_to(root: Path) -> None:
    (root.parent / "kept").mkdir()
    (root / "run" / "inner").mkdir()
    (root / "run" / "inner" / "link").symlink_to(root.parent / "kept")
    for _ in range(2):
        remove_beneath(root, root / "run" / "inner")
        assert list((root / "run").iterdir()) == []
    assert (root.parent / "kept").is_dir()


def test_a_link_is_removed_itself(root: Path) -> None:
    (root / "run" / "link").symlink_to(root.parent)
    remove_beneath(root, root / "run" / "link")
    assert (root.parent / "secret").is_file()
    assert not (root / "run" / "link").is_symlink()


@pytest.mark.parametrize("act", [remove_beneath, lambda root, path: write_beneath(root, path, "x")])
def test_nothing_is_changed_behind_a_folder_that_is_a_link(
    root: Path, act: Callable[[Path, Path], None]
) -> None:
    (root / "other").symlink_to(root.parent)
    with pytest.raises(OSError, match="Not a directory"):
        act(root, root / "other" / "secret")
    assert (root.parent / "secret").read_text() == "secret"
