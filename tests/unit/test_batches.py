"""Batches against torchtune: orders that torch 2.13.0 drew, and runs that were recorded."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import batches

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "torchtune" / "steps.json").read_text()
)
# sha256 of torch.randperm(rows, generator=torch.Generator().manual_seed(epoch)) as little-endian unsigned 32-bit numbers
ORDERS = json.loads((Path(__file__).parents[1] / "data" / "torchtune" / "orders.json").read_text())


def lengths_of(*lengths: int) -> batches.Lengths:
    return np.array(lengths, dtype=np.uint32)


def settings_of(run: dict[str, Any]) -> dict[str, Any]:
    names = ("batch_size", "gradient_accumulation_steps", "max_steps_per_epoch", "epochs")
    return {name: run[name] for name in names}


@pytest.mark.parametrize("drawn", ORDERS, ids=lambda drawn: f"{drawn['rows']}-{drawn['epoch']}")
def test_the_order_is_the_one_that_torch_draws(drawn: dict[str, Any]) -> None:
    order = batches.shuffled(drawn["rows"], epoch=drawn["epoch"])
    assert hashlib.sha256(order.astype("<u4").tobytes()).hexdigest() == drawn["sha256"]


def test_more_rows_than_torch_draws_in_this_way_are_refused() -> None:
    with pytest.raises(ValueError, match="The order of 214748364 rows is not known"):
        batches.shuffled(batches.MOST_ROWS + 1, epoch=0)


@pytest.mark.parametrize("run", RECORDED, ids=range(len(RECORDED)))
def test_every_micro_batch_is_padded_as_in_a_recorded_run(run: dict[str, Any]) -> None:
    lengths = lengths_of(*run["row_tokens"])
    samples = lengths if run["packs"] is None else lengths_of(*[run["max_seq_len"]] * run["packs"])
    recorded = [length for epoch in run["batch_lengths"] for length in epoch]
    assert batches.padded_lengths(samples, **settings_of(run)).tolist() == recorded


@pytest.mark.parametrize("run", RECORDED, ids=range(len(RECORDED)))
def test_the_workload_is_that_of_a_recorded_run(run: dict[str, Any]) -> None:
    recorded = [length for epoch in run["batch_lengths"] for length in epoch]
    found = batches.workload(
        lengths_of(*run["row_tokens"]),
        max_seq_len=run["max_seq_len"],
        packed=run["packed"],
        **settings_of(run),
    )
    assert found is not None
    assert found.samples == (run["rows"] if run["packs"] is None else run["packs"])
    assert found.steps_per_epoch * run["epochs"] == run["steps"]
    assert found.longest_sequence == max(recorded, default=0)
    assert found.longest_batch_tokens == run["batch_size"] * found.longest_sequence
    if run["steps"]:
        tokens = run["batch_size"] * sum(recorded)
        squares = run["batch_size"] * sum(length**2 for length in recorded)
        assert found.tokens_per_step * run["steps"] == pytest.approx(tokens)
        assert found.squares_per_step * run["steps"] == pytest.approx(squares)


@pytest.mark.parametrize("run", [run for run in RECORDED if run["packed"]], ids=lambda run: run["rows"])
def test_the_packs_are_those_of_a_recorded_run(run: dict[str, Any]) -> None:
    assert batches.packs(lengths_of(*run["row_tokens"]), max_seq_len=run["max_seq_len"]) == run["packs"]


@given(st.lists(st.integers(2, 60), max_size=60), st.integers(10, 60))
def test_packs_are_those_of_packing_row_by_row(lengths: list[int], max_seq_len: int) -> None:
    packed, count = 0, 0
    for length in lengths:
        length = min(length, max_seq_len)
        count += not count or packed + length > max_seq_len
        packed = length if packed + length > max_seq_len else packed + length
    assert batches.packs(lengths_of(*lengths), max_seq_len=max_seq_len) == count


def test_the_share_of_truncated_rows_is_of_the_rows_as_they_are() -> None:
    found = batches.workload(
        lengths_of(10, 20, 30, 40),
        batch_size=1,
        gradient_accumulation_steps=1,
        max_seq_len=25,
        packed=False,
        epochs=1,
    )
    assert found is not None
    assert (found.truncated_share, found.longest_sequence) == (0.5, 25)


def test_without_rows_there_is_no_workload() -> None:
    kwargs = {
        "batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_seq_len": 9,
        "packed": False,
        "epochs": 1,
    }
    assert batches.workload(lengths_of(), **kwargs) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_share_all_rows_and_the_first_ones_fill_up(world_size: int) -> None:
    """As DistributedSampler does, which repeats the first rows of the order (11 rows for 8 ranks: 5 of them)."""
    dealt = [
        batches.micro_batches(
            11, batch_size=1, gradient_accumulation_steps=1, epoch=0, world_size=world_size, rank=rank
        )
        for rank in range(world_size)
    ]
    together = np.hstack(dealt).ravel().tolist()
    order = batches.shuffled(11, epoch=0).tolist()
    assert together == [*order, *order[: len(together) - 11]]


def test_the_longest_batch_is_that_of_any_rank() -> None:
    order = batches.shuffled(8, epoch=0)
    lengths = np.full(8, 10, dtype=np.uint32)
    lengths[order[1]] = 99  # dealt to rank 1
    found = batches.workload(
        lengths,
        batch_size=2,
        gradient_accumulation_steps=1,
        max_seq_len=128,
        packed=False,
        epochs=1,
        world_size=2,
    )
    assert found is not None
    assert (found.longest_sequence, found.tokens_per_step) == (99, 20.0)


PROBE: dict[str, Any] = {"batch_size": 4, "gradient_accumulation_steps": 2, "max_seq_len": 512}


def probed(lengths: batches.Lengths, **change: Any) -> batches.Lengths:
    rows = batches.probe_rows(lengths, **{**PROBE, "steps": 3, **change})
    return np.minimum(lengths[list(rows)], 512)


def test_a_probe_ends_with_the_longest_batch_and_is_typical_before() -> None:
    lengths = np.random.RandomState(0).randint(20, 200, size=1003).astype(np.uint32)
    lengths[batches.shuffled(1003, epoch=0)[-1]] = 400  # left out by the first epoch
    padded = probed(lengths).reshape(6, 4).max(axis=1)
    assert padded[-1] == 400
    typical = np.median(
        batches.padded_lengths(lengths, batch_size=4, gradient_accumulation_steps=2, epochs=1)
    )
    assert all(abs(int(length) - typical) <= 1 for length in padded[:-1])


@pytest.mark.parametrize("rows", [1, 3, 5, 40])
def test_a_probe_fills_its_batches_from_few_rows(rows: int) -> None:
    assert len(probed(np.arange(10, 10 + rows, dtype=np.uint32))) == 3 * 2 * 4


@pytest.mark.parametrize("rows", [7, 100, 1000])
def test_a_packed_probe_fills_all_its_packs(rows: int) -> None:
    lengths = np.random.RandomState(rows).randint(20, 600, size=rows).astype(np.uint32)
    packs = batches.packs(probed(lengths, packed=True), max_seq_len=512)
    assert 3 * 2 * 4 <= packs <= 3 * 2 * 4 + 3 * (rows == 7)  # a pack more, where all rows come again
