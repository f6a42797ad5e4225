import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.steps import steps_per_epoch


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"rows": 1600, "batch_size": 4}, 400),
        ({"rows": 1603, "batch_size": 4}, 400),  # the last incomplete batch is dropped
        ({"rows": 10, "batch_size": 3, "gradient_accumulation_steps": 2}, 1),  # and the last accumulation
        ({"rows": 10, "batch_size": 2, "world_size": 3}, 2),  # ranks are padded to the same length
        ({"rows": 100, "batch_size": 1, "max_steps_per_epoch": 7}, 7),
        ({"rows": 3, "batch_size": 1, "max_steps_per_epoch": 7}, 3),
        ({"rows": 3, "batch_size": 4}, 0),
        ({"rows": 7, "batch_size": 4, "gradient_accumulation_steps": 2}, 0),
    ],
)
def test_the_steps_are_those_that_torchtune_takes(settings: dict[str, int], steps: int) -> None:
    assert steps_per_epoch(**settings) == steps


@given(rows=st.integers(1, 10**6), batch=st.integers(1, 512), accumulation=st.integers(1, 64))
def test_no_row_is_used_twice_in_an_epoch(rows: int, batch: int, accumulation: int) -> None:
    steps = steps_per_epoch(rows=rows, batch_size=batch, gradient_accumulation_steps=accumulation)
    assert steps * batch * accumulation <= rows < (steps + 2) * batch * accumulation
