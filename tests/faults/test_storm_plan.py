"""The storm follows from its seed, and keeps faults of one component apart."""

from itertools import islice

import pytest

from tests.faults import storm


def planned(seed: int, count: int = 400) -> list[storm.Planned]:
    chosen = storm.kinds(on_postgres=True)
    return list(islice(storm.plan(seed=seed, chosen=chosen, gap_seconds=1.0), count))


def test_the_same_seed_is_the_same_storm() -> None:
    assert planned(1) == planned(1) != planned(2)


def test_every_kind_comes() -> None:
    assert {fault.kind.name for fault in planned(3, 2000)} == {
        kind.name for kind in storm.kinds(on_postgres=True)
    }


@pytest.mark.parametrize("component", ["node", "control", "redis"])
def test_faults_of_a_component_keep_apart(component: str) -> None:
    at, free_at = 0.0, 0.0
    for fault in planned(4, 2000):
        at += fault.after_seconds
        if fault.kind.component == component:
            assert at >= free_at - 1e-6
            free_at = at + fault.seconds + 12.0


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kill_nod"):
        storm.kinds(on_postgres=False, only=["kill_nod"])
