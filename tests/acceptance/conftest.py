"""Labs that acceptance tests share: one that ran the demo, and one that is up."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.lab import Lab


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short, since the path of a unix socket may not be long."""
    path = Path(tempfile.mkdtemp(prefix="lab-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Demo:
    lab: Lab
    exit_code: int
    output: str


@pytest.fixture(scope="session")
def demo(folder: Path) -> Iterator[Demo]:
    lab = Lab(folder / "demo")
    done = lab.run("demo", "--exit", timeout=900)
    yield Demo(lab, done.returncode, done.stdout + done.stderr)
    lab.run("stop")


@pytest.fixture(scope="session")
def lab(folder: Path) -> Iterator[Lab]:
    lab = Lab(folder / "lab")
    done = lab.run("up", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(Path("experiments/demo/models"), lab.home / "models", dirs_exist_ok=True)
    yield lab
    lab.run("stop")
    assert lab.job_processes() == []
