"""max_parallel as a window that people set while its experiment runs."""

import pytest
from django.core.management import CommandError
from django.utils import timezone

from experiments.models import Experiment
from experiments.specs import Outcome
from experiments.states import RunState
from scheduler import dispatch, ending
from scheduler.models import Device, Job, TickRequest
from scheduler.ticker import resume
from tests.factories import make_cell, make_device, make_experiment, make_node, make_run
from tests.integration.commands import command

pytestmark = pytest.mark.django_db(transaction=True)


def queued(count: int, *, max_parallel: int) -> Experiment:
    """An experiment with so many runs that wait, and as many devices."""
    experiment = make_experiment(name="ranks", approved=True, max_parallel=max_parallel)
    cell, node = make_cell(experiment=experiment), make_node(is_simulated=True)
    for _ in range(count):
        make_run(cell=cell, state=RunState.QUEUED)
        make_device(node=node, kind=Device.Kind.SIMULATED)
    return experiment


def tick() -> int:
    return dispatch.tick(now=timezone.now(), send=lambda job: None)


def end_a_job() -> None:
    job = Job.objects.exclude(state="ENDED").first()
    assert job
    (run_id,) = job.launches.values_list("run", flat=True)
    outcomes = {run_id: Outcome(succeeded=True)}
    ending.end_job(job=job, record=None, outcomes=outcomes, log_tail="", now=timezone.now())


def window(*words: str) -> str:
    return command("window", *words)


def test_a_larger_window_lets_more_start_at_once() -> None:
    queued(5, max_parallel=1)
    resume()
    assert (tick(), tick()) == (1, 0)
    before = TickRequest.objects.get().requested
    assert window("ranks", "4") == "ranks: at most 4 at a time.\n"
    assert TickRequest.objects.get().requested == before + 1
    assert (tick(), tick()) == (3, 0)


def test_a_smaller_window_ends_nothing_and_starts_nothing_until_enough_have_ended() -> None:
    queued(6, max_parallel=3)
    assert tick() == 3
    told = window("ranks", "2")
    assert told == "ranks: at most 2 at a time; 3 are open, and nothing starts until fewer than 2 are.\n"
    assert not Job.objects.filter(cancel_requested_at__isnull=False).exists()
    end_a_job()
    assert tick() == 0
    end_a_job()
    assert tick() == 1


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "many", str(2**31)])
def test_a_bad_window_is_refused(given: str) -> None:
    experiment = queued(1, max_parallel=2)
    with pytest.raises(CommandError, match="give a whole number of 1 or more"):
        window("ranks", given)
    experiment.refresh_from_db()
    assert experiment.max_parallel == 2


def test_a_window_of_nothing_and_of_a_draft_is_refused() -> None:
    with pytest.raises(CommandError, match="There is no experiment 'rankz'"):
        window("rankz", "2")
    make_experiment(name="draft")
    with pytest.raises(CommandError, match="'draft' is a draft.*change its document"):
        window("draft", "5")
