"""What the benchmark of idle slots rests on: its arithmetic, the program that its runs execute, its faults."""

import shutil
import subprocess
from pathlib import Path

import pytest

from scheduler.launchers import process_tree
from tests.benchmarks import gaps, idle_gap
from tests.benchmarks.gaps import Ran
from tests.benchmarks.queue_peers import PEERS, labmgr_peer, recorder
from tests.benchmarks.queue_peers.base import Outcome, PeerError, Work
from tests.benchmarks.queue_peers.leftovers import nothing_left
from tests.benchmarks.queue_peers.xargs_peer import Xargs


def ran(name: str, started: float, ended: float, *, slot: str = "0") -> Ran:
    return Ran(name=name, slot=slot, started=started, ended=ended)


def test_a_gap_lies_between_two_runs_of_the_same_slot() -> None:
    runs = [ran("a", 0, 1), ran("b", 1.5, 2), ran("c", 0, 1.2, slot="1"), ran("d", 1.3, 2, slot="1")]
    assert sorted(gaps.gaps(runs, slots=2)) == pytest.approx([0.1, 0.5])


def test_where_slots_have_no_names_a_start_takes_the_one_that_is_free_for_longest() -> None:
    runs = [ran("a", 0, 2, slot="-"), ran("b", 0, 1, slot="-"), ran("c", 1.1, 4, slot="-")]
    runs += [ran("d", 2.3, 4, slot="-")]
    assert sorted(gaps.gaps(runs, slots=2)) == pytest.approx([0.1, 0.3])


def test_the_wall_counts_from_the_moment_at_which_the_runs_were_handed_over() -> None:
    runs = [ran("a", 11, 13), ran("b", 13.1, 15.1), ran("c", 11, 13, slot="1")]
    measured = gaps.measure(runs, submitted_at=10.0, seconds=2.0, slots=2)
    assert (measured.wall_seconds, measured.ideal_seconds) == (5.1, 4.0)
    assert (measured.over_ideal, measured.first_start_seconds) == (1.275, 1.0)


def test_percentiles_are_values_that_occurred() -> None:
    runs = [ran(str(number), number, number + 1 - number / 1000) for number in range(101)]
    measured = gaps.measure(runs, submitted_at=0.0, seconds=1.0, slots=1)
    assert (measured.gap_p50_ms, measured.gap_p99_ms, measured.gap_max_ms) == (49.0, 98.0, 99.0)


def test_runs_that_are_missing_doubled_or_share_a_slot_are_told() -> None:
    assert gaps.faults([ran("a", 0, 1), ran("b", 1, 2)], expected=2, slots=1) == []
    assert gaps.faults([ran("a", 0, 1)], expected=2, slots=1) == ["1 of 2 runs did not run"]
    assert gaps.faults([ran("a", 0, 1), ran("a", 1, 2)], expected=1, slots=1) == ["1 runs ran twice"]
    assert gaps.faults([ran("a", 0, 2), ran("b", 1, 3)], expected=2, slots=1) == [
        "a slot held two runs at once"
    ]
    apart = [ran("a", 0, 1), ran("b", 0, 1, slot="1")]
    assert gaps.faults(apart, expected=2, slots=1) == ["2 slots were used where there are 1"]


def test_the_runs_program_notes_what_it_was_told_and_when_it_ran(tmp_path: Path) -> None:
    program, record = recorder.build(tmp_path), tmp_path / "record"
    before = recorder.now()
    subprocess.run([program, record, "0.02", "seven", "3"], check=True)
    (noted,) = recorder.read(record)
    assert (noted.name, noted.slot) == ("seven", "3")
    assert before <= noted.started <= noted.ended - 0.02 <= recorder.now()


def test_a_peer_that_is_not_installed_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert idle_gap.main(["--peers", "task-spooler"]) == 0
    assert (
        "task-spooler is left out: tsp is not here; apt-get install task-spooler" in capsys.readouterr().err
    )


def test_what_loses_its_parent_is_ended_with_its_peer() -> None:
    with nothing_left():
        orphaned = subprocess.run(
            ["sh", "-c", "sleep 600 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True, check=True
        )
        assert process_tree.is_alive(int(orphaned.stdout))
    assert process_tree.find(int(orphaned.stdout)) is None


def test_a_peer_is_measured_from_its_start_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert Xargs().missing() is None
    assert idle_gap.main(["--peers", "xargs", "--runs", "12", "--seconds", "0.05"]) == 0
    assert "| 12 x sleep 0.05 | xargs | no |" in capsys.readouterr().out


def test_the_steps_of_a_gap_add_up_to_it() -> None:
    def job(number: int, at: float) -> dict[str, object]:
        times = {"placed_at": at, "claimed_at": at + 0.01, "started_at": at + 0.03, "ended_at": at + 1.06}
        return {"run": f"number{number}", "slot": "0", **times}

    noted = [ran("0", 0.04, 1.05), ran("1", 1.24, 2.25)]
    steps = labmgr_peer.steps([job(0, 0.0), job(1, 1.2)], noted)
    assert {name: each["p50"] for name, each in steps.items()} == {
        "its supervisor has seen it": 10.0,
        "the next is placed": 140.0,
        "claimed": 10.0,
        "its supervisor is up": 20.0,
        "process started": 10.0,
    }


def test_a_peer_that_fails_is_told_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Xargs):
        name = "broken"

        def run(self, work: Work, folder: Path) -> Outcome:
            raise PeerError("It did not start.")

    monkeypatch.setitem(PEERS, "broken", Broken())
    assert idle_gap.main(["--peers", "broken,xargs", "--runs", "8", "--seconds", "0.05"]) == 1
    told = capsys.readouterr().out
    assert "broken: It did not start." in told
    assert "| 8 x sleep 0.05 | xargs |" in told
