"""A node's session: who acts for the node, until when its jobs may run, and who may be given jobs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from scheduler import queue, sessions
from scheduler.agent import Agent
from scheduler.inventory import read_simulated
from scheduler.launchers import fence
from scheduler.launchers.job_tree import boot_clock
from scheduler.launchers.process_tree import boot_id
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Node, SessionState
from scheduler.paths import fence_file
from scheduler.sessions import Session, Standing
from tests.factories import make_device, make_node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.CONTROL_ROOT = tmp_path / "control"


@pytest.fixture
def node() -> Node:
    return make_node(name="here", session_renewed_at=None)


@pytest.fixture
def other(node: Node) -> Node:
    """Another node, which could take the runs of the first."""
    return make_device(node=make_node(name="other")).node


def opened() -> Session:
    session = Session(node_name="here")
    session.open()
    return session


def renew(session: Session) -> Standing:
    session._due = 0.0
    return session.keep()


def deadline(settings: Any) -> float:
    return fence.read(fence_file(control_root=settings.CONTROL_ROOT, node="here"))


def test_a_session_is_dated_by_the_databases_clock(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: pytest.fail("the host's clock was asked"))
    opened()
    fresh = Node.objects.filter(
        session_renewed_at__gt=Now() - timedelta(seconds=20), session_renewed_at__lte=Now()
    )
    assert fresh.get().boot_id == boot_id()
    length = timedelta(seconds=600)
    assert Node.objects.get().session_expires_at == pytest.approx(  # type: ignore[comparison-overlap]
        Node.objects.get().session_renewed_at + length, abs=timedelta(milliseconds=5)
    )


def test_the_older_of_two_agents_notices_and_changes_nothing(node: Node) -> None:
    older, newer = opened(), opened()
    before = Node.objects.values().get()
    assert renew(older) is Standing.SUPERSEDED
    assert Node.objects.values().get() == before
    assert renew(newer) is Standing.HELD
    assert renew(older) is Standing.SUPERSEDED


def test_an_agent_that_was_replaced_stops_watching(settings: Any) -> None:
    reading = read_simulated(name="sim", text="1x1GiB")
    older, newer = (
        Agent(reading=reading, launcher=SimulatedLauncher(), send=lambda job: None) for _ in range(2)
    )
    older.step(timeout_seconds=0)
    newer.step(timeout_seconds=0)
    older._session._due = 0.0
    older.run()  # ends by itself
    assert Node.objects.get().session_epoch == 2


def test_a_session_is_not_renewed_before_it_is_due(node: Node) -> None:
    session = opened()
    before = Node.objects.get().session_renewed_at
    assert session.keep() is Standing.HELD
    assert Node.objects.get().session_renewed_at == before


def test_a_single_node_never_stops_its_jobs(node: Node, settings: Any) -> None:
    opened()
    assert deadline(settings) == fence.NEVER
    assert not Node.objects.get().session_stops_jobs


def test_where_there_are_others_jobs_end_before_the_session(node: Node, other: Node, settings: Any) -> None:
    opened()
    left = deadline(settings) - boot_clock()
    end = settings.NODE_LOST_AFTER_SECONDS - settings.GRACE_SECONDS
    assert end - 30 < left < end
    assert Node.objects.get(name="here").session_stops_jobs


def test_a_renewal_that_is_lost_moves_no_deadline(
    node: Node, other: Node, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened()
    before = deadline(settings)
    Node.objects.filter(name="here").update(session_epoch=F("session_epoch") + 1)
    renew(session)
    assert deadline(settings) == before


def test_the_fence_stands_before_the_database_promises_it(
    node: Node, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened()
    make_device(node=make_node(name="other"))
    Node.objects.filter(name="here").update(
        session_epoch=F("session_epoch") + 1
    )  # so the promise is not kept
    renew(session)
    assert deadline(settings) < fence.NEVER
    assert not Node.objects.get(name="here").session_stops_jobs


def test_the_fence_falls_with_the_last_other_node(node: Node, other: Node, settings: Any) -> None:
    session = opened()
    other.devices.update(state="DRAINED")
    renew(session)
    assert deadline(settings) == fence.NEVER
    assert not Node.objects.get(name="here").session_stops_jobs


@pytest.mark.parametrize(
    "fields", [{"is_simulated": True}, {"is_draining": True}, {"session_renewed_at": None}]
)
def test_who_takes_no_runs_is_no_other_node(node: Node, other: Node, fields: dict[str, Any]) -> None:
    Node.objects.filter(name="other").update(**fields)
    assert not sessions.others_may_take("here")


def test_a_node_that_was_not_heard_of_offers_nothing(other: Node) -> None:
    assert [free.name for free in queue.free_nodes()] == ["other"]
    Node.objects.filter(name="other").update(session_renewed_at=Now() - timedelta(seconds=31))
    assert queue.free_nodes() == []


def test_a_lost_node_offers_nothing_until_it_has_proven_its_jobs_gone(node: Node) -> None:
    make_device(node=node)
    Node.objects.update(session_lost_at=Now())
    session = opened()
    assert session.has_to_prove
    assert renew(session) is Standing.HELD
    assert queue.free_nodes() == []
    session.proven()
    assert [free.name for free in queue.free_nodes()] == ["here"]


def test_what_is_left_of_taken_jobs_is_not_allowed_to_go_on(node: Node, other: Node, settings: Any) -> None:
    opened()
    fence.write(fence_file(control_root=settings.CONTROL_ROOT, node="here"), 1.0)
    Node.objects.filter(name="here").update(session_lost_at=Now())
    session = opened()
    renew(session)
    assert deadline(settings) == 1.0
    session.proven()
    assert deadline(settings) > boot_clock()


def test_an_agent_whose_runs_were_taken_is_told_so(node: Node) -> None:
    session = opened()
    Node.objects.update(session_lost_at=Now())
    assert renew(session) is Standing.LOST


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"session_renewed_at": None}, SessionState.NEVER),
        ({"session_renewed_at": Now()}, SessionState.LIVE),
        ({"session_renewed_at": Now() - timedelta(minutes=1)}, SessionState.AWAY),
        ({"session_renewed_at": Now(), "session_lost_at": Now()}, SessionState.LOST),
    ],
)
def test_the_state_of_a_session_is_told(node: Node, fields: dict[str, Any], state: SessionState) -> None:
    Node.objects.update(**fields)
    assert Node.objects.with_session_state().get().session_state == state
