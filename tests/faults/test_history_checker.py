"""The checker, by histories written by hand: for each rule one that holds and others that do not."""

from typing import Any

import pytest

from tests.faults import checker, recovery, rules_of_nodes, rules_of_runs
from tests.faults.findings import Rule
from tests.faults.history import (
    Blind,
    DeviceSeen,
    EventRow,
    Fault,
    History,
    JobRow,
    LeftProcess,
    NodeSeen,
    OpenJob,
    RunRow,
    Sample,
    Sign,
    Submitted,
)

RUN = RunRow(id=1, key="w1/7", kind="command", state="SUCCEEDED")


def events(*told: tuple[str, str, int | None]) -> tuple[EventRow, ...]:
    return tuple(
        EventRow(id=number, run=1, state=state, reason=reason, job=job)
        for number, (state, reason, job) in enumerate(told)
    )


def execution(
    job: int, since: float, until: float, *, whole: bool = True, pid: int = 100
) -> tuple[Sign, ...]:
    told = [("begin", since), ("alive", (since + until) / 2), ("end" if whole else "alive", until)]
    return tuple(Sign(kind=kind, key="w1/7", job=job, pid=pid + job, at=at) for kind, at in told)


ONCE = events(("QUEUED", "", None), ("RUNNING", "", 5), ("SUCCEEDED", "", 5))
AGAIN = events(
    ("QUEUED", "", None),
    ("RUNNING", "", 5),
    ("QUEUED", "SUPERVISOR_LOST", 5),
    ("RUNNING", "", 6),
    ("SUCCEEDED", "", 6),
)
GOOD = History(
    runs=(RUN,),
    events=AGAIN,
    signs=(*execution(5, 10, 11, whole=False), *execution(6, 12, 14)),
    jobs=(
        JobRow(id=5, node="here", state="ENDED", ending="supervisor_lost", runs=(1,), devices=(1,)),
        JobRow(id=6, node="here", state="ENDED", ending="exited", runs=(1,), devices=(1,)),
    ),
    submitted=(Submitted(experiment="w1", runs=1),),
    faults=(
        Fault(number=1, kind="kill_supervisor", component="supervisor", at=10.9, returned_at=10.9, job=5),
    ),
    samples=(
        Sample(at=10.5, open_jobs=(OpenJob(id=5, node="here", state="RUNNING"),)),
        Sample(at=11.5),
        Sample(at=15.0, devices=(DeviceSeen(id=1, memory_mib=9, allocated_mib=0, leased_mib=0),)),
    ),
)


def changed(**more: Any) -> History:
    return History(**{**vars(GOOD), **more})


def run(**more: Any) -> tuple[RunRow, ...]:
    return (RunRow(**{**vars(RUN), **more}),)


def test_a_run_that_was_lost_once_and_ended_well_is_fine() -> None:
    assert checker.check(GOOD) == []


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (changed(runs=run(state="RUNNING")), "is RUNNING after everything had ended"),
        (changed(runs=run(state="FAILED", reason="EXIT_CODE")), "is FAILED (EXIT_CODE)"),
        (changed(runs=run(state="FAILED", reason="CRASH_LOOP")), "was lost 1 times"),
        (changed(runs=run(state="CANCELLED")), "is CANCELLED"),
        (changed(runs=run(state="PLANNED")), "is PLANNED"),
        (changed(signs=execution(6, 12, 14, whole=False)), "did not come to its end"),
        (changed(submitted=(Submitted(experiment="w1", runs=2),)), "was queued with 2 runs, and has 1"),
        (changed(faults=()), "lost a supervisor that nobody had killed"),
    ],
)
def test_what_is_lost_is_found(history: History, told: str) -> None:
    [finding] = rules_of_runs.lost(history)
    assert finding.rule is Rule.LOST and told in finding.told


def test_a_plan_that_was_never_promised_to_run_is_not_lost() -> None:
    assert list(rules_of_runs.lost(changed(runs=run(state="PLANNED"), submitted=()))) == []


def test_a_run_that_was_lost_three_times_may_fail() -> None:
    lost = ("QUEUED", "SUPERVISOR_LOST")
    story = [("RUNNING", "", 5), (*lost, 5), ("RUNNING", "", 6), (*lost, 6), ("RUNNING", "", 8)]
    failed = events(("QUEUED", "", None), *story, ("FAILED", "CRASH_LOOP", 8))
    assert (
        list(rules_of_runs.lost(changed(runs=run(state="FAILED", reason="CRASH_LOOP"), events=failed))) == []
    )


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (changed(signs=(*execution(5, 10, 13), *execution(6, 12, 14))), "two at once"),
        (changed(signs=(*execution(6, 10, 11), *execution(6, 12, 14, pid=500))), "twice in one job"),
        (changed(signs=(*execution(6, 12, 14), *execution(5, 15, 16))), "again after it had succeeded"),
        (changed(signs=(*execution(6, 12, 14), *execution(9, 10, 11))), "not given to that job"),
        (changed(runs=run(key="w1/8"), signs=execution(6, 12, 14)), "w1/7 was executed, and is no run"),
        (changed(events=events(*[("SUCCEEDED", "", 6)] * 2)), "went from SUCCEEDED to SUCCEEDED"),
        (changed(events=events(("RUNNING", "", 5), ("SUCCEEDED", "", 6))), "was ended by job 6"),
        (changed(events=events(*[("RUNNING", "", job) for job in (5, 6)])), "from RUNNING to RUNNING"),
    ],
)
def test_what_is_doubled_is_found(history: History, told: str) -> None:
    assert any(told in finding.told for finding in rules_of_runs.doubled(history))


def seen(allocated: int = 9, leased: int = 9, **more: Any) -> Sample:
    device = DeviceSeen(id=1, memory_mib=9, allocated_mib=allocated, leased_mib=leased)
    return Sample(**{"at": 1.0, "devices": (device,), **more})


def test_a_device_that_is_held_by_one_job_after_the_other_is_fine() -> None:
    history = changed(samples=(seen(), seen(allocated=0, leased=0)))
    assert [*rules_of_nodes.over_given(history), *rules_of_nodes.leaked(history)] == []


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (changed(samples=(seen(allocated=18, leased=18),)), "has 9 MiB, of which 18 are held"),
        (changed(samples=(seen(allocated=0),)), "counts 0 MiB as given, and its leases hold 9"),
        (changed(samples=(seen(windows=("w1 counts 3",)),)), "w1 counts 3"),
        (
            changed(samples=(seen(nodes=(NodeSeen(name="here", miscounted="threads"),)),)),
            "node here: threads",
        ),
        (changed(signs=(*execution(5, 10, 13), *execution(6, 12, 14))), "was used by two at once"),
    ],
)
def test_what_is_over_given_is_found(history: History, told: str) -> None:
    assert told in next(rules_of_nodes.over_given(history)).told


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (seen(allocated=0, leased=0, ended_and_holding=(5,)), "job 5 had ended and held devices"),
        (seen(), "at the end device 1 is AVAILABLE and holds 9 MiB"),
        (
            Sample(
                at=1,
                devices=(DeviceSeen(id=1, memory_mib=9, allocated_mib=0, leased_mib=0, state="QUARANTINED"),),
            ),
            "is QUARANTINED",
        ),
    ],
)
def test_what_is_leaked_is_found(sample: Sample, told: str) -> None:
    [finding] = rules_of_nodes.leaked(changed(samples=(sample,)))
    assert told in finding.told


def test_what_outlives_its_job_or_everything_is_found() -> None:
    history = changed(samples=(seen(ended_and_alive={5: (77,)}),), left=(LeftProcess(pid=78, command="cat"),))
    assert [finding.told for finding in rules_of_nodes.orphans(history)] == [
        "at 1.0 processes [77] outlived job 5",
        "process 78 was left: cat",
    ]


def node_lost(*, taken_at: float, requeues: bool = True, lost: bool = True) -> History:
    """A node that renewed at 1.0 for the last time, and whose job was taken."""
    held = OpenJob(id=5, node="second", state="RUNNING", requeues=requeues)
    moments = [0.0, 1.0, *(float(second) for second in range(2, 60))]
    samples = tuple(
        Sample(
            at=at,
            nodes=(NodeSeen(name="second", renewals=f"{min(at, 1.0)}", is_lost=lost and at >= 21.5),),
            open_jobs=(held,) if at < taken_at else (),
        )
        for at in moments
    )
    job = JobRow(id=5, node="second", state="ENDED", ending="NODE_LOST", requeues=requeues)
    return History(samples=samples, jobs=(job,), node_lost_after=20.0)


def test_a_lost_node_loses_its_runs_after_its_session_ran_out() -> None:
    assert list(rules_of_nodes.node_loss(node_lost(taken_at=22.0))) == []


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (node_lost(taken_at=10.0), "was taken 9.0 s after second had renewed"),
        (node_lost(taken_at=22.0, requeues=False), "its experiment waits for its node"),
        (node_lost(taken_at=50.0), "was not taken from second, which is lost"),
    ],
)
def test_what_a_lost_node_may_not_lose_or_keep_is_found(history: History, told: str) -> None:
    assert told in next(rules_of_nodes.node_loss(history)).told


def test_a_lost_node_that_is_given_a_job_is_found() -> None:
    lost = (NodeSeen(name="second", is_lost=True),)
    new = OpenJob(id=6, node="second", state="PLACED", requeues=False)
    history = History(samples=(Sample(at=1, nodes=lost), Sample(at=2, nodes=lost, open_jobs=(new,))))
    assert "was given to second" in next(rules_of_nodes.node_loss(history)).told


def killed_node(*, works_again_at: float, **more: Any) -> History:
    fault = Fault(number=1, kind="kill_node", component="node", at=10.0, returned_at=12.0)
    samples = tuple(
        Sample(at=float(at), marks={"node:here": "1" if at < works_again_at else "2"}) for at in range(60)
    )
    return History(**{"faults": (fault,), "samples": samples, **more})


def test_recovery_counts_from_the_return_of_the_component() -> None:
    [found] = recovery.recoveries(killed_node(works_again_at=15.0))
    assert (found.seconds, found.outage_seconds) == (3.0, 5.0)


@pytest.mark.parametrize(("open_from", "open_until", "seconds"), [(8, 12, 3.0), (11, 12, 3.0), (99, 99, 1.0)])
def test_a_killed_supervisor_is_recovered_from_when_its_job_has_ended(
    open_from: int, open_until: int, seconds: float
) -> None:
    job = OpenJob(id=5, node="here", state="RUNNING")
    samples = tuple(
        Sample(at=float(at), open_jobs=(job,) if open_from <= at <= open_until else ()) for at in range(60)
    )
    killed = Fault(number=1, kind="kill_supervisor", component="supervisor", at=10.0, returned_at=10.0, job=5)
    [found] = recovery.recoveries(History(faults=(killed,), samples=samples))
    assert found.seconds == seconds


def test_what_another_fault_or_the_observer_kept_back_is_not_counted() -> None:
    kept = Fault(number=2, kind="kill_control", component="control", at=11.0, returned_at=20.0)
    own = killed_node(works_again_at=24.0).faults[0]
    [found] = recovery.recoveries(killed_node(works_again_at=24.0, faults=(own, kept)))[:1]
    assert found.seconds == 4.0
    blind = (Blind(since=13.0, until=23.0),)
    assert recovery.recoveries(killed_node(works_again_at=24.0, blind=blind))[0].seconds == 1.0


@pytest.mark.parametrize(
    ("works_again_at", "told"), [(30.0, "p99 is 18.0 s"), (99.0, "was never recovered from")]
)
def test_a_slow_recovery_is_found(works_again_at: float, told: str) -> None:
    assert list(recovery.slow(killed_node(works_again_at=15.0))) == []
    assert told in next(recovery.slow(killed_node(works_again_at=works_again_at))).told


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(value) for value in range(1, 201)]
    assert (recovery.percentile(values, 50), recovery.percentile(values, 99)) == (100.0, 198.0)
