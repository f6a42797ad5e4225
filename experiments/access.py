"""Who may touch whose experiments; admin and API go through here.

`user` is None at the machine's own shell, whose operator may do everything.
"""

from collections.abc import Iterable

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied

from experiments.models import Experiment
from experiments.specs import CommandSpec, FinetuneSpec, ProbeSpec, RunSpec

OPERATOR = "the operator"  # at the machine's own shell


class NotApproved(Exception):
    """Only what is approved can be steered and run again."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(
            f"Experiment {experiment.name!r} is a draft, of which nothing starts; approve it first, "
            "or change its document."
        )


def may_control(experiment: Experiment, user: AbstractUser | None) -> bool:
    """The owner, who holds `control_any_run`, and the operator (None)."""
    return may_control_all(user) or bool(user and experiment.created_by_id == user.pk)


def may_control_all(user: AbstractUser | None) -> bool:
    return user is None or user.has_perm("experiments.control_any_run")


def named(user: AbstractUser | None) -> str:
    return user.get_username() if user else OPERATOR


def require_control(experiment: Experiment, user: AbstractUser | None) -> None:
    """Raises PermissionDenied."""
    if not may_control(experiment, user):
        raise PermissionDenied(
            f"{experiment.name!r} belongs to somebody else; experiments.control_any_run is needed."
        )


def require_approved(experiment: Experiment) -> None:
    """Raises NotApproved."""
    if experiment.is_draft:
        raise NotApproved(experiment)


def require_control_of_all(user: AbstractUser | None) -> None:
    """Raises PermissionDenied."""
    if not may_control_all(user):
        raise PermissionDenied("This concerns everybody's runs; experiments.control_any_run is needed.")


def require_commands(user: AbstractUser | None) -> None:
    """Raises PermissionDenied."""
    if user is not None and not user.has_perm("experiments.run_commands"):
        raise PermissionDenied("A command of the lab's own needs the permission experiments.run_commands.")


def require_own_recipes(user: AbstractUser | None) -> None:
    """Raises PermissionDenied."""
    if user is not None and not user.has_perm("experiments.run_own_recipes"):
        raise PermissionDenied(
            "A recipe file of the lab's own needs the permission experiments.run_own_recipes."
        )


def require_own_programs(specs: Iterable[RunSpec], user: AbstractUser | None) -> None:
    """What runs of these would start as the account of the service. Raises PermissionDenied."""
    for spec in specs:
        if isinstance(spec, CommandSpec):
            require_commands(user)
        trained = spec.finetune if isinstance(spec, ProbeSpec) else spec
        if isinstance(trained, FinetuneSpec) and trained.recipe_file:
            require_own_recipes(user)
