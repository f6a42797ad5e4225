import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.steps import steps_per_epoch

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "torchtune" / "steps.json").read_text()
)


def _told(run: dict[str, Any]) -> int:
    epoch = steps_per_epoch(
        rows=run["rows"] if run["packs"] is None else run["packs"],
        batch_size=run["batch_size"],
        gradient_accumulation_steps=run["gradient_accumulation_steps"],
        max_steps_per_epoch=run["max_steps_per_epoch"],
    )
    return epoch * run["epochs"]


@pytest.mark.parametrize("run", RECORDED, ids=range(len(RECORDED)))
def test_the_steps_are_those_of_a_recorded_run(run: dict[str, Any]) -> None:
    assert _told(run) == run["steps"]


def test_the_recorded_runs_cover_what_changes_the_steps() -> None:
    assert len(RECORDED) >= 30
    assert sum(run["steps"] == 0 for run in RECORDED) >= 5
    assert sum(run["packed"] for run in RECORDED) >= 10
    assert sum(run["max_steps_per_epoch"] is not None for run in RECORDED) >= 8
    assert sum(run["gradient_accumulation_steps"] > 1 for run in RECORDED) >= 10
    assert sum(run["epochs"] > 1 for run in RECORDED) >= 8


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
