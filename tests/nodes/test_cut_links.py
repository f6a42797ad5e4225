"""Several nodes, real workers and processes, and links that are cut. Nothing is doubled, and nothing is lost."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import until
from tests.nodes import beats, network
from tests.nodes.beats import Life
from tests.nodes.lab import LOST_AFTER, Machines, machines

REASON = network.why_not()
pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=f"no machines to cut off: {REASON}"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with network.network("a", "b") as made, machines(tmp_path_factory.mktemp("lab"), network=made) as started:
        started.start_head()
        yield started


@pytest.fixture
def beating(lab: Machines, tmp_path: Path) -> Callable[..., "Beating"]:
    return lambda name, **document: Beating(lab, tmp_path, name, document)


class Beating:
    """An experiment of one run that tells when it lives, and ends when it is let."""

    def __init__(self, lab: Machines, folder: Path, name: str, document: dict[str, Any]) -> None:
        self._lab, self.name = lab, name
        self._file, self._gate = folder / f"{name}.beats", folder / f"{name}.gate"
        argv = [sys.executable, beats.__file__, str(self._file), str(self._gate)]
        lab.plan({"name": name, "command": {"argv": argv}, **document})

    @property
    def lives(self) -> list[Life]:
        return beats.lives(self._file)

    @property
    def nodes(self) -> list[str]:
        return [job["node"] for job in self._lab.jobs(self.name)]

    def wait_for_lives(self, number: int, *, seconds: float = 30) -> None:
        until(lambda: len(self.lives) >= number, seconds=seconds)

    def end_well(self) -> dict[str, Any]:
        self._gate.touch()
        until(lambda: self._lab.run(self.name)["state"] != "RUNNING", seconds=30)
        row = self._lab.run(self.name)
        assert row["state"] == "SUCCEEDED", row
        return row


def test_what_becomes_of_runs_when_a_link_is_cut(lab: Machines, beating: Callable[..., Beating]) -> None:
    """Of two runs on the node that is cut off, one may start elsewhere, and one waits."""
    lab.start("a")
    moving, waiting = beating("moving", on_node_lost="requeue"), beating("waiting")
    moving.wait_for_lives(1), waiting.wait_for_lives(1)
    lab.start("b")
    until(lambda: lab.node("a")["session_stops_jobs"], seconds=15)

    cut_at = beats.now()
    lab.network.cut("a")
    moving.wait_for_lives(2, seconds=3 * LOST_AFTER)
    first, second = moving.lives
    assert first.last < cut_at + LOST_AFTER, "it stopped itself before the session ran out"
    assert first.last < second.first, "it never ran twice at a time"
    assert moving.nodes == ["a", "b"]
    assert lab.run("moving")["reason"] == "" and lab.run("moving")["launches_count"] == 2
    assert "waits: its node a has been away since" in lab.manage("status", "waiting")

    lab.network.mend("a")
    until(lambda: lab.node("a")["session_lost_at"] is None, seconds=40)
    moved, waited = moving.end_well(), waiting.end_well()
    assert (moved["launches_count"], waited["launches_count"]) == (2, 1)
    assert [life.ended for life in moving.lives] == [False, True]
    (life,) = waiting.lives
    assert life.longest_gap < 5, "nobody stopped what may wait"
    assert not lab.rows("SELECT 1 FROM scheduler_lease WHERE released_at IS NULL")
    assert lab.rows("SELECT DISTINCT reason FROM experiments_runevent WHERE reason <> ''") == [
        {"reason": "NODE_LOST"}
    ]


def test_a_node_whose_worker_died_stops_its_jobs_all_the_same(
    lab: Machines, beating: Callable[..., Beating]
) -> None:
    """And the next worker adopts what waited for it."""
    lab.rows("UPDATE scheduler_node SET is_draining = (name = 'b') RETURNING 1")
    moving, waiting = beating("moving-too", on_node_lost="requeue"), beating("waiting-too")
    moving.wait_for_lives(1), waiting.wait_for_lives(1)
    lab.rows("UPDATE scheduler_node SET is_draining = false RETURNING 1")
    until(lambda: lab.node("a")["session_stops_jobs"], seconds=15)

    lab.kill("a")
    moving.wait_for_lives(2, seconds=3 * LOST_AFTER)
    first, second = moving.lives
    assert first.last < second.first
    assert moving.nodes == ["a", "b"]

    lab.start("a")
    waited = waiting.end_well()
    assert waited["launches_count"] == 1 and len(waiting.lives) == 1
    moving.end_well()
    assert not lab.rows("SELECT 1 FROM scheduler_lease WHERE released_at IS NULL")


def test_a_machine_without_the_shared_run_root_is_sent_away(lab: Machines, tmp_path: Path) -> None:
    environment = lab.environment("c") | {"LABMGR_RUN_ROOT": str(tmp_path)}
    refused = lab.try_to_join("b", environment=environment)
    assert refused.returncode == 2
    assert f"LABMGR_RUN_ROOT is {tmp_path} here and {lab.runs} on the head" in refused.stderr
    refused = lab.try_to_join("b", environment=lab.environment("b") | {"LABMGR_HOME": str(tmp_path)})
    assert refused.returncode == 2
    assert "The node name b is in use by the worker of" in refused.stderr


def test_no_password_is_in_a_log_or_a_list_of_processes(lab: Machines) -> None:
    logs = [path for path in lab.folder.rglob("*.log") if lab.password in path.read_text(errors="replace")]
    assert logs == []
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if lab.password.encode() in command]
