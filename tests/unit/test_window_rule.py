"""How an automatic window moves."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.window_rule import WindowFacts, next_window


def facts(
    *, devices: int = 8, oom: bool = False, proven: bool = True, would_start: bool = True
) -> WindowFacts:
    return WindowFacts(
        devices=devices, ran_out_of_memory=oom, is_proven=proven, one_more_would_start=would_start
    )


def test_it_grows_by_one_while_devices_idle_and_the_last_change_is_proven() -> None:
    assert next_window(3, facts()) == 4
    assert next_window(3, facts(proven=False)) == 3
    assert next_window(3, facts(would_start=False)) == 3


def test_it_halves_when_memory_ran_out_whatever_else_speaks_for_it() -> None:
    assert [next_window(window, facts(oom=True)) for window in (8, 5, 2, 1)] == [4, 2, 1, 1]


def test_it_is_never_larger_than_the_devices_that_there_are() -> None:
    assert next_window(8, facts()) == 8
    assert next_window(100, facts(would_start=False)) == 8
    assert next_window(3, facts(devices=0)) == 1


FACTS = st.builds(
    WindowFacts,
    devices=st.just(0),  # drawn once for a whole history, below
    ran_out_of_memory=st.booleans(),
    is_proven=st.booleans(),
    one_more_would_start=st.booleans(),
)


@given(devices=st.integers(0, 64), history=st.lists(FACTS, max_size=200), data=st.data())
def test_it_never_leaves_one_to_the_number_of_devices(
    devices: int, history: list[WindowFacts], data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, max(1, devices)))
    for seen in history:
        before, window = window, next_window(window, replace(seen, devices=devices))
        assert 1 <= window <= max(1, devices)
        assert window - before <= 1


@given(window=st.integers(1, 10**6), devices=st.integers(0, 64), seen=FACTS)
def test_one_that_is_too_large_comes_back_at_once(window: int, devices: int, seen: WindowFacts) -> None:
    assert 1 <= next_window(window, replace(seen, devices=devices)) <= max(1, devices)
