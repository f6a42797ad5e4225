"""The queue played forward."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from experiments.estimation import SECONDS
from experiments.fleet import AskedRun, Turn
from experiments.models import Estimate, Run
from experiments.states import RunState
from scheduler.models import Device
from scheduler.outlook import LabSchedule
from tests.factories import NOW, make_cell, make_device, make_experiment, make_job, make_node, make_run

pytestmark = pytest.mark.django_db


def asked(seconds: float | None = 60, *, devices: int = 1, after: int | None = None) -> AskedRun:
    return AskedRun(
        seconds=seconds,
        devices=devices,
        device_memory_mib=None,
        host_memory_mib=0,
        cpu_threads=1,
        pool="",
        limit_seconds=3600,
        priority=0,
        simulated=False,
        after=after,
    )


def turns(runs: Sequence[AskedRun], *, max_parallel: int = 8) -> list[tuple[float | None, float | None]]:
    found = LabSchedule().turns(runs=runs, max_parallel=max_parallel, now=NOW)
    return [(_seconds(turn, "start_at"), _seconds(turn, "end_at")) for turn in found]


def _seconds(turn: Turn, end: str) -> float | None:
    at = getattr(turn, end)
    return None if at is None else (at - NOW).total_seconds()


def estimated(run: Run, seconds: float) -> Run:
    Estimate.objects.create(run=run, metric=SECONDS, value=seconds, grade="measured")
    return run


def queued(seconds: float) -> Run:
    cell = make_cell(experiment=make_experiment(approved=True))
    return estimated(make_run(cell=cell, state=RunState.QUEUED, kind="command"), seconds)


def devices(count: int) -> list[Device]:
    node = make_node()
    return [make_device(node=node) for _ in range(count)]


def test_the_fleet_groups_devices_that_are_alike_and_leaves_out_what_is_drained() -> None:
    first, *_ = devices(3)
    devices(1)
    Device.objects.filter(pk=first.pk).update(state=Device.State.DRAINED)
    (kind,) = LabSchedule().fleet().kinds
    assert (kind.count, kind.most_on_a_node) == (3, 2)


def test_runs_take_turns_on_what_there_is() -> None:
    devices(2)
    assert turns([asked(60), asked(100), asked(30)]) == [(0, 60), (0, 100), (60, 90)]


def test_a_window_holds_runs_back() -> None:
    devices(2)
    assert turns([asked(60), asked(60)], max_parallel=1) == [(0, 60), (60, 120)]


def test_an_evaluation_starts_when_its_fine_tune_ends() -> None:
    devices(2)
    assert turns([asked(60), asked(10, after=0)]) == [(0, 60), (60, 70)]


def test_what_is_queued_already_comes_first() -> None:
    devices(1)
    queued(40)
    assert turns([asked(60)]) == [(40, 100)]


def test_a_running_job_ends_by_its_estimate() -> None:
    (device,) = devices(1)
    cell = make_cell(experiment=make_experiment(approved=True))
    run = estimated(make_run(cell=cell, state=RunState.RUNNING, kind="command"), 90)
    make_job(runs=[run], devices=[device], started_at=NOW - timedelta(seconds=30))
    assert turns([asked(60)]) == [(60, 120)]


def test_behind_a_run_without_evidence_nothing_is_known() -> None:
    devices(1)
    assert turns([asked(None), asked(60)]) == [(0, None), (None, None)]


def test_what_no_node_could_hold_has_no_turn_and_holds_nobody_back() -> None:
    devices(1)
    assert turns([asked(60, devices=2), asked(60)]) == [(None, None), (0, 60)]
