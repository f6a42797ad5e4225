"""What a lab that is updated keeps."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission

from experiments.models import Experiment, Run
from experiments.states import RunState
from scheduler import queue
from tests.factories import NOW, make_cell, make_experiment, make_run

pytestmark = pytest.mark.django_db


def test_runs_that_were_queued_before_turns_existed_keep_their_place() -> None:
    cell = make_cell(experiment=make_experiment(approved=True))
    later = make_run(cell=cell, state=RunState.QUEUED, ready_at=NOW, turn_at=None, priority=2)
    earlier = make_run(
        cell=cell, state=RunState.QUEUED, ready_at=NOW - timedelta(minutes=1), turn_at=None, priority=0
    )
    assert queue.eligible_runs() == []
    import_module("experiments.migrations.0003_turns_of_earlier_runs").give_turns(apps, None)
    assert [run.run_id for run in queue.eligible_runs()] == [later.pk, earlier.pk]
    assert Run.objects.get(pk=later.pk).turn_at == NOW - timedelta(hours=2)


def test_a_permission_that_is_there_has_its_new_label() -> None:
    migration = import_module("experiments.migrations.0007_steering_permission")
    permission = Permission.objects.get(codename="control_any_run")
    labels = dict(Experiment._meta.permissions)
    assert permission.name == labels["control_any_run"]
    migration.rename_back(apps, None)
    permission.refresh_from_db()
    assert permission.name == "Can cancel other people's experiments and runs"
    migration.rename(apps, None)
    permission.refresh_from_db()
    assert permission.name == labels["control_any_run"]
