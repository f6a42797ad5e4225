"""The lookout beside an agent: it waits for its node, looks, prunes, and stops when it is told."""

from datetime import timedelta

import pytest

from scheduler.inventory import looking
from scheduler.inventory.lookout import PRUNE_EVERY_LOOKS, Lookout
from scheduler.models import HostReading
from tests.factories import NOW, make_node

pytestmark = pytest.mark.django_db(transaction=True)


def test_nothing_is_looked_at_before_the_agent_has_made_its_node() -> None:
    Lookout(node_name="here").step()
    assert not HostReading.objects.exists()


def test_every_look_is_kept_and_what_is_old_goes() -> None:
    node = make_node(name="here")
    HostReading.objects.create(node=node, at=NOW, keep_until=NOW, used_mib=1, load=1)
    times = iter(NOW + timedelta(seconds=15 * n) for n in range(1, PRUNE_EVERY_LOOKS + 2))
    lookout = Lookout(node_name="here", clock=lambda: next(times))
    for _ in range(PRUNE_EVERY_LOOKS + 1):
        lookout.step()
    assert HostReading.objects.count() == PRUNE_EVERY_LOOKS + 1
    assert not HostReading.objects.filter(at=NOW).exists()


def test_a_fault_does_not_end_it(monkeypatch: pytest.MonkeyPatch, settings: object) -> None:
    make_node(name="here")
    settings.READ_EVERY_SECONDS = 0  # type: ignore[attr-defined]
    lookout = Lookout(node_name="here")
    faults = iter([ValueError("odd"), OSError("odd")])

    def faulty(**_: object) -> None:
        fault = next(faults, None)
        if fault is None:
            lookout.stop()
            return
        raise fault

    monkeypatch.setattr(looking, "look", faulty)
    lookout.start()
    lookout.join(timeout=30)
    assert not lookout.is_alive()
    assert next(faults, None) is None
