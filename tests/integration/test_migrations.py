"""What a lab that is updated keeps."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps

from experiments.models import Run
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
