import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.launchers import process_tree
from scheduler.launchers.process_tree import Process


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Process]:
    env = {**os.environ, **process_tree.marks(job_id=1, control_dir=tmp_path)}
    with subprocess.Popen(["sleep", "60"], env=env) as child:
        process = process_tree.find(child.pid)
        assert process
        yield process
        child.kill()


@pytest.fixture
def leader() -> Iterator[Process]:
    """Of a session of its own: whatever started the tests may have left theirs without one."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        process = process_tree.find(child.pid)
        assert process
        yield process
        child.kill()


def is_alive(process: Process) -> bool:
    return process in process_tree.descendants(os.getpid())


@pytest.mark.parametrize("has_children_files", [True, False])
def test_descendants_are_found_with_and_without_help_of_the_kernel(
    marked: Process, has_children_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_tree, "_HAS_CHILDREN_FILES", has_children_files)
    assert marked in process_tree.descendants(os.getpid())


def test_the_same_job_of_another_installation_is_left_alone(marked: Process, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert process_tree.strays(job_id=1, control_dir=tmp_path, leader=None) == [marked]
    assert process_tree.strays(job_id=1, control_dir=other, leader=None) == []
    assert process_tree.strays(job_id=2, control_dir=tmp_path, leader=None) == []


def test_a_reused_pid_is_never_signalled(marked: Process) -> None:
    earlier = marked._replace(start_time=marked.start_time - 1)
    process_tree.kill(lambda: [earlier])
    assert process_tree.open_pidfd(earlier) is None
    assert is_alive(marked)


def test_a_session_is_swept_while_its_leader_is_the_same_process(leader: Process, tmp_path: Path) -> None:
    assert process_tree.strays(job_id=2, control_dir=tmp_path, leader=leader) == [leader]


def test_a_session_led_by_somebody_else_since_is_no_stray(leader: Process, tmp_path: Path) -> None:
    reused = leader._replace(start_time=leader.start_time - 1)
    assert process_tree.strays(job_id=2, control_dir=tmp_path, leader=reused) == []


def test_what_cannot_be_killed_is_named(marked: Process) -> None:
    immortal = marked._replace(start_time=marked.start_time - 1)
    assert process_tree.kill_until_gone(lambda: [immortal], seconds=0.05) == (marked.pid,)


def test_zombies_are_not_alive(marked: Process) -> None:
    process_tree.kill_until_gone(lambda: [marked] if is_alive(marked) else [])
    assert process_tree.find(marked.pid) == marked  # not yet waited for by its parent, this test
    assert not is_alive(marked)


def test_a_peak_is_known_after_its_memory_was_given_back() -> None:
    program = "held = bytearray(100 << 20); del held; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout and child.stdout.readline()
        process = process_tree.find(child.pid)
        assert process
        assert process_tree.rss_kib([process]) < 100 * 1024 <= process_tree.peak_kib(process) < 200 * 1024
        child.kill()
    assert process_tree.peak_kib(process) == 0
