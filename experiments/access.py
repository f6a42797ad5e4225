"""Who may touch whose experiments; admin and API go through here."""

from django.contrib.auth.models import AbstractUser

from experiments.models import Experiment


def may_control(experiment: Experiment, user: AbstractUser | None) -> bool:
    """The owner, who holds `control_any_run`, and the operator at the machine's own shell (None)."""
    return user is None or experiment.created_by_id == user.pk or user.has_perm("experiments.control_any_run")
