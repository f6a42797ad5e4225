"""A machine that cannot be a node of the lab is told why, and what to do, before anything starts."""

from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now

from experiments.states import JobState
from labmgr.bootstrap import worker
from labmgr.bootstrap.output import LabError
from scheduler import joining, sessions
from scheduler.launchers.process_tree import boot_id
from scheduler.models import ControlPlane, Node
from tests.factories import make_device, make_job, make_node

pytestmark = pytest.mark.django_db

PASSWORD = "s3cr#t"


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, settings: Any) -> None:
    """One whose head was started, seen from a machine that may join it."""
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"
    settings.NODE_NAME = "here"
    joining.mark_run_root()


def only_problem() -> str:
    (problem,) = joining.problems()
    return problem


def node_of(
    *, place: str = "elsewhere:/home", boot: str = "another", control: str = "another", **fields: Any
) -> Node:
    session = {"session_epoch": 1, "session_place": place, "boot_id": boot, "session_control": control}
    return make_node(name="here", **{**session, **fields})


def test_a_machine_that_shares_the_run_root_may_join() -> None:
    assert joining.problems() == []


def test_marking_again_changes_nothing(settings: Any) -> None:
    before = (settings.RUN_ROOT / joining.MARK).read_text()
    joining.mark_run_root()
    assert (settings.RUN_ROOT / joining.MARK).read_text() == before.strip() + "\n"
    assert ControlPlane.objects.get().run_root_mark == before.strip()


def test_a_run_root_without_its_marker_is_not_the_shared_one(settings: Any) -> None:
    (settings.RUN_ROOT / joining.MARK).unlink()
    assert (
        f"{settings.RUN_ROOT} is not the folder of that path on the head: it has no marker" in only_problem()
    )


def test_nor_is_that_of_another_lab(settings: Any) -> None:
    (settings.RUN_ROOT / joining.MARK).write_text("another")
    assert "the marker of another lab" in only_problem()


def test_the_run_root_has_the_same_path_everywhere(settings: Any, tmp_path: Path) -> None:
    head = settings.RUN_ROOT
    settings.RUN_ROOT = tmp_path / "mounted"
    assert f"LABMGR_RUN_ROOT is {tmp_path}/mounted here and {head} on the head" in only_problem()


def test_a_lab_that_was_never_started_is_not_joined() -> None:
    ControlPlane.objects.all().delete()
    assert "start the head first" in only_problem()


def test_a_database_of_an_older_version_is_named() -> None:
    (last,) = MigrationExecutor(connection).loader.graph.leaf_nodes("scheduler")
    MigrationRecorder(connection).record_unapplied(*last)
    assert ".".join(last) in only_problem() and "Upgrade and start the head first" in only_problem()


def test_a_database_of_a_newer_version_is_named() -> None:
    MigrationRecorder(connection).record_applied("scheduler", "9999_of_tomorrow")
    assert "scheduler.9999_of_tomorrow" in only_problem() and "Check out the commit" in only_problem()


def test_a_database_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[str]:
        raise OperationalError("connection refused\nand more")

    monkeypatch.setattr(joining, "_migrations", refuse)
    assert "does not answer (connection refused)" in only_problem()


@pytest.mark.parametrize("differs", ["boot", "control"])
def test_a_name_that_another_worker_uses_is_refused(differs: str) -> None:
    same = {"boot": boot_id(), "control": sessions.control_id()}
    node_of(**{**same, differs: "another"})
    assert "The node name here is in use by the worker of elsewhere:/home" in only_problem()


def test_a_worker_that_is_started_again_may_join() -> None:
    node_of(boot=boot_id(), control=sessions.control_id())
    assert joining.problems() == []


def test_a_name_that_was_given_up_may_be_taken() -> None:
    node_of(session_renewed_at=Now() - joining.sessions.timedelta(minutes=1))
    assert joining.problems() == []


def test_jobs_that_may_live_elsewhere_are_not_launched_again() -> None:
    node = node_of(session_renewed_at=None)
    job = make_job(devices=[make_device(node=node)], state=JobState.RUNNING)
    assert f"(job {job.pk})" in only_problem() and "whose control folder this is not" in only_problem()


def test_jobs_of_this_machine_before_it_was_restarted_are_gone() -> None:
    node = node_of(place=sessions.place(), session_renewed_at=None)
    make_job(devices=[make_device(node=node)], state=JobState.RUNNING)
    assert joining.problems() == []


@pytest.mark.parametrize(
    ("name", "url", "said"),
    [
        ("DATABASE_URL", "sqlite:////srv/db.sqlite3", "names no server"),
        ("DATABASE_URL", f"postgresql://lab:{PASSWORD}@db/lab", "cannot be read as a URL"),
        ("REDIS_URL", "redis+socket:///run/redis.sock?virtual_host=0", "names no server"),
        ("REDIS_URL", f"redis://:{PASSWORD}@cache:6379/0", "cannot be read as a URL"),
        ("REDIS_URL", "redis://cache:6379/0", "has no password"),
    ],
)
def test_a_url_that_no_other_machine_can_use_is_named_and_not_repeated(
    name: str, url: str, said: str
) -> None:
    good = {"DATABASE_URL": "postgresql://lab:p@db/lab", "REDIS_URL": "redis://:p@cache:6379/0"}
    worker.require_servers(good)
    with pytest.raises(LabError, match=f"{name}.*{said}") as refused:
        worker.require_servers({**good, name: url})
    assert "s3cr" not in str(refused.value)
