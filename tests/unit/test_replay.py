"""Workloads as files, and what a replay's report finds in recorded launches: doctored ones, too."""

from dataclasses import replace
from pathlib import Path

import pytest

from labmgr.replay import in_memory
from labmgr.replay.report import RecordedLaunch, doubled, errors, lost, report
from labmgr.replay.workload import DEVICE_MEMORY_MIB, ReplayJob, WorkloadError, lower_bound, read

HEADER = "submit_seconds,duration_seconds,devices,memory_mib,priority,user,pool"


def job(index: int, **fields: object) -> ReplayJob:
    defaults: dict[str, object] = {
        "submit_seconds": 0.0,
        "duration_seconds": 10.0,
        "devices": 1,
        "memory_mib": None,
        "priority": 0,
        "user": "a",
        "pool": "",
    }
    return ReplayJob(index=index, **defaults | fields)  # type: ignore[arg-type]


def launch(index: int, started: float, ended: float, *devices: int, **fields: object) -> RecordedLaunch:
    defaults: dict[str, object] = {"succeeded": True, "pool": "", "memory_mib": DEVICE_MEMORY_MIB}
    return RecordedLaunch(index=index, started=started, ended=ended, devices=devices, **defaults | fields)  # type: ignore[arg-type]


JOBS = [job(0), job(1, submit_seconds=1.0)]
GOOD = [launch(0, 0.0, 10.0, 7), launch(1, 10.5, 20.5, 7)]


def test_a_replay_that_went_well_has_nothing_to_say() -> None:
    found = report(jobs=JOBS, launches=GOOD, devices=1)
    assert (found.lost, found.doubled, found.errors) == (0, 0, 0)
    assert (found.makespan_seconds, found.last_start_seconds) == (20.5, 10.5)
    assert found.mean_wait_seconds == {"1": 4.75}
    assert found.idle_gap_seconds == {"p50": 0.5, "p99": 0.5}


def test_a_job_without_a_launch_or_without_success_is_lost() -> None:
    assert lost(JOBS, GOOD[:1]) == {1}
    assert lost(JOBS, [GOOD[0], replace(GOOD[1], succeeded=False)]) == {1}
    assert lost(JOBS, [GOOD[0], replace(GOOD[1], ended=None)]) == {1}


def test_a_job_that_was_launched_twice_is_doubled() -> None:
    assert doubled([*GOOD, launch(0, 30.0, 40.0, 8)]) == {0}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"succeeded": False}, "did not succeed"),
        ({"started": None}, "without a recorded start"),
        ({"started": 0.5, "ended": 10.5, "devices": (8,)}, "before it was submitted"),
        ({"ended": 12.0}, "ended after 1.500"),
        ({"devices": (7, 8)}, "held 2 devices instead of 1"),
        ({"memory_mib": 5}, "held 5 MiB"),
        ({"pool": "other"}, "ran in pool 'other'"),
        ({"started": 9.0, "ended": 19.0}, "Device 7 was given"),
        ({"index": 9}, "which the workload has not"),
    ],
)
def test_what_must_not_be_is_an_error(change: dict[str, object], told: str) -> None:
    doctored = [GOOD[0], replace(GOOD[1], **change)]  # type: ignore[arg-type]
    (sentence,) = errors(JOBS, doctored)
    assert told in sentence


def test_a_device_is_not_idle_while_nobody_waits_for_it() -> None:
    late = [job(0), job(1, submit_seconds=15.0)]
    found = report(jobs=late, launches=[GOOD[0], launch(1, 15.0, 25.0, 7)], devices=1)
    assert found.idle_gap_seconds == {"p50": None, "p99": None}


def test_the_bound_is_that_of_the_fullest_pool_from_its_worst_moment() -> None:
    jobs = [job(0, pool="x"), job(1, pool="y", submit_seconds=30.0), job(2, pool="y", submit_seconds=30.0)]
    assert lower_bound(jobs, devices=1) == 50.0
    assert lower_bound([job(0, memory_mib=DEVICE_MEMORY_MIB // 2)], devices=1) == 5.0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x,1,1,,0,a,p", "line 2, submit_seconds: 'x'"),
        ("0,nan,1,,0,a,p", "line 2, duration_seconds: 'nan'"),
        ("0,-1,1,,0,a,p", "line 2, duration_seconds: '-1'"),
        ("0,1,0,,0,a,p", "line 2, devices: '0' is less than 1"),
        ("0,1,9,,0,a,p", "line 2, devices: '9' is more than the 4"),
        ("0,1,1,1.5,0,a,p", "line 2, memory_mib: '1.5'"),
        ("0,1,1,90000,0,a,p", "line 2, memory_mib: '90000' is more than"),
        ("0,1,1,,high,a,p", "line 2, priority: 'high'"),
        ("0,1,1,,0,a", "line 2: 6 values for 7 columns"),
        ("", "no jobs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(WorkloadError, match=told):
        read(path, devices=4)


def test_a_column_that_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("submit_seconds,devices\n0,1\n")
    with pytest.raises(WorkloadError, match="duration_seconds is missing"):
        read(path, devices=4)
    path.write_text(f"{HEADER},colour\n0,1,1,,0,a,p,red\n")
    with pytest.raises(WorkloadError, match="'colour' is unknown"):
        read(path, devices=4)


def test_in_memory_a_gang_waits_for_its_devices_and_none_is_given_twice() -> None:
    jobs = [job(0), job(1, devices=2, submit_seconds=1.0), job(2, pool="other"), job(3, devices=2)]
    launches = in_memory.play(jobs, devices=2)
    found = report(jobs=jobs, launches=launches, devices=2)
    assert (found.lost, found.doubled, found.errors) == (0, 0, 0)
    assert {each.index: each.started for each in launches}[2] == 0.0
    assert found.makespan_seconds == 30.0
