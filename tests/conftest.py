"""What tests of several kinds share: three people, a lab that ran the demo, and one that is up."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from django.contrib.auth.models import User

from tests.factories import make_user
from tests.lab import REPOSITORY, Demo, Lab, copy_of_the_repository, files_below

_SEEING = [
    *(f"experiments.view_{name}" for name in ("experiment", "cell", "run", "dataset", "basemodel")),
    *(f"experiments.view_{name}" for name in ("observation", "calibration")),
    *(f"scheduler.view_{name}" for name in ("node", "device", "job")),
]


class People(NamedTuple):
    owner: User  # plans and approves experiments
    colleague: User  # sees everything, approves nothing
    outsider: User  # has an account and is not of the lab


@pytest.fixture
def people(db: None) -> People:
    planning = ["experiments.add_experiment", "experiments.approve_plan"]
    return People(
        owner=make_user(username="owner", permissions=[*_SEEING, *planning]),
        colleague=make_user(username="colleague", permissions=_SEEING),
        outsider=make_user(username="outsider", is_staff=False),
    )


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short, since the path of a unix socket may not be long."""
    path = Path(tempfile.mkdtemp(prefix="lab-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def demo(folder: Path) -> Iterator[Demo]:
    """In a copy of the repository, by somebody whose own folders are empty."""
    checkout = copy_of_the_repository(folder / "checkout")
    person, temporary = folder / "person", folder / "tmp"
    for made in (person, temporary):
        made.mkdir()
    before = files_below(checkout)
    lab = Lab(folder / "demo", checkout=checkout, HOME=str(person), TMPDIR=str(temporary))
    done = lab.run("demo", "--exit", timeout=900)
    written = (files_below(checkout) - before) | files_below(person) | files_below(temporary)
    yield Demo(lab, done.returncode, done.stdout + done.stderr, written)
    lab.run("stop")


@pytest.fixture(scope="session")
def lab(folder: Path) -> Iterator[Lab]:
    lab = Lab(folder / "lab")
    lab.up()
    shutil.copytree(REPOSITORY / "experiments/demo/models", lab.home / "models", dirs_exist_ok=True)
    yield lab
    lab.run("stop")
    assert lab.processes() == []
