"""Tests write nothing in var/ (tests.environment), and know three people."""

from typing import NamedTuple

import pytest
from django.contrib.auth.models import User

from tests import environment  # noqa: F401, I001  it comes first: it prepares Django for the next two
from tests.factories import make_user

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
