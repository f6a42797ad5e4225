import time

import pytest
from celery import current_app

from labmgr.beat import SteadyScheduler


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(SteadyScheduler, "producer", None)
    monkeypatch.setattr(
        SteadyScheduler, "apply_entry", lambda self, entry, producer: names.append(entry.name)
    )
    return names


def test_what_is_scheduled_is_sent_at_the_start_and_then_evenly(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    beat = SteadyScheduler(app=current_app)
    assert beat.tick() == 10.0
    assert set(sent) == {"safety-net", "learn"}
    now += 9.9
    beat.tick()
    assert len(sent) == 2
    now += 0.2
    assert 4.8 < beat.tick() < 5.0
    assert sent[2:] == ["safety-net"]


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_wall_clock_that_is_set_changes_nothing(
    sent: list[str], monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    beat = SteadyScheduler(app=current_app)
    beat.tick()
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + step)
    assert 9.0 < beat.tick() <= 10.0
    assert len(sent) == 2
