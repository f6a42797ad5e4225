"""The batches that torchtune 0.6.1 makes of given token lengths: its shuffle is fixed, so they are known beforehand."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from experiments.specs import Workload
from experiments.steps import steps_per_epoch

Lengths = NDArray[np.uint32]
Indices = NDArray[np.uint32]

SHUFFLE_SEED = 0  # of every recipe of torchtune 0.6.1, whatever `seed` says
MOST_ROWS = (2**32 - 1) // 20 - 1  # with more, torch.randperm draws its numbers in another way


def shuffled(rows: int, *, epoch: int) -> Indices:
    """The order in which an epoch reads so many rows: torch.randperm, seeded with the shuffle's seed plus the epoch."""
    if rows > MOST_ROWS:
        raise ValueError(f"The order of {rows} rows is not known: at most {MOST_ROWS}. Split the dataset.")
    return _shuffled(rows, SHUFFLE_SEED + epoch)


def packs(lengths: Lengths, *, max_seq_len: int) -> int:
    """How many packs PackedDataset makes (split_across_pack=False): one is closed when the next row does not fit."""
    return len(_pack_ends(lengths, max_seq_len))


def micro_batches(
    rows: int,
    *,
    batch_size: int,
    gradient_accumulation_steps: int,
    epoch: int,
    max_steps_per_epoch: int | None = None,
    world_size: int = 1,
    rank: int = 0,
    shuffle: bool = True,
) -> Indices:
    """The indices of the rows in each micro-batch that a rank runs in an epoch, in order: one a line.

    An epoch ends at its last allowed step. Without such a limit the micro-batches that are left over after the last
    whole step are run, too, and their gradients go into the first step of the next epoch. A batch that is not full
    is dropped.
    """
    read = shuffled(rows, epoch=epoch) if shuffle else np.arange(rows, dtype=np.uint32)
    order = _of_rank(read, world_size, rank)
    count = len(order) // batch_size
    if max_steps_per_epoch is not None:
        count = min(count, max_steps_per_epoch * gradient_accumulation_steps)
    return order[: count * batch_size].reshape(count, batch_size)


def workload(
    lengths: Lengths,
    *,
    batch_size: int,
    gradient_accumulation_steps: int,
    max_seq_len: int,
    packed: bool,
    epochs: int,
    max_steps_per_epoch: int | None = None,
    world_size: int = 1,
    shuffle: bool = True,
) -> Workload | None:
    """What a fine-tune computes. `lengths` are those of all rows, not truncated; None if there are none.

    The means are those of rank 0, and whole: times the number of steps they give all tokens that are computed, those
    left over at the end of an epoch, too. The longest batch is that of any rank.
    """
    if not len(lengths):
        return None
    samples = _samples(lengths, max_seq_len, packed)
    steps = steps_per_epoch(
        rows=len(samples),
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        world_size=world_size,
        max_steps_per_epoch=max_steps_per_epoch,
    )
    padded = [
        padded_lengths(
            samples,
            batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation_steps,
            epochs=epochs,
            max_steps_per_epoch=max_steps_per_epoch,
            world_size=world_size,
            rank=rank,
            shuffle=shuffle,
        )
        for rank in range(world_size)
    ]
    longest = max(int(of_rank.max(initial=0)) for of_rank in padded)
    return Workload(
        samples=len(samples),
        steps_per_epoch=steps,
        tokens_per_step=_per_step(batch_size * padded[0].sum(), steps * epochs),
        squares_per_step=_per_step(batch_size * (padded[0] ** 2).sum(), steps * epochs),
        longest_batch_tokens=batch_size * longest,
        longest_sequence=longest,
        truncated_share=float(np.mean(lengths > max_seq_len)),
    )


def padded_lengths(
    samples: Lengths,
    *,
    batch_size: int,
    gradient_accumulation_steps: int,
    epochs: int,
    max_steps_per_epoch: int | None = None,
    world_size: int = 1,
    rank: int = 0,
    shuffle: bool = True,
) -> NDArray[np.int64]:
    """To how many tokens each micro-batch of all epochs is padded, in order: those of its longest sample."""
    of_epochs = [
        samples[
            micro_batches(
                len(samples),
                batch_size=batch_size,
                gradient_accumulation_steps=gradient_accumulation_steps,
                epoch=epoch,
                max_steps_per_epoch=max_steps_per_epoch,
                world_size=world_size,
                rank=rank,
                shuffle=shuffle,
            )
        ].max(axis=1, initial=0)
        for epoch in range(epochs)
    ]
    return np.concatenate(of_epochs).astype(np.int64)


def probe_rows(
    lengths: Lengths,
    *,
    batch_size: int,
    gradient_accumulation_steps: int,
    max_seq_len: int,
    steps: int,
    packed: bool = False,
) -> tuple[int, ...]:
    """Rows that make so many optimizer steps, in the order in which they are to be batched.

    The micro-batches are those of the first epoch that are padded to what is typical, and as the last one the longest
    that can be: when it comes, the optimizer's state and accumulated gradients are there, too. Packed, all batches
    are alike, and the rows are those that fill them, in the order of the file.
    """
    count = steps * gradient_accumulation_steps
    if packed:
        return _filling(lengths, max_seq_len, count * batch_size)
    cut = np.minimum(lengths, max_seq_len)
    order = shuffled(len(cut), epoch=0)
    order = np.resize(
        order, max(len(order) // batch_size, 1) * batch_size
    )  # a batch at least, if need be of repeats
    batches = order.reshape(-1, batch_size)
    typical = batches[_nearest_to_the_median(cut[batches].max(axis=1))]
    return (*_flat(np.resize(typical, (count - 1, batch_size))), *_flat(_longest(cut, batches)))


@lru_cache(maxsize=16)
def _shuffled(rows: int, seed: int) -> Indices:
    """torch.randperm on CPU: a Fisher-Yates shuffle that draws 32 bits for each row from MT19937, modulo what is left.

    aten/src/ATen/native/TensorFactories.cpp of torch 2.13.0; numpy's RandomState is seeded as torch's generator is.
    """
    places = np.arange(max(rows - 1, 0), dtype=np.uint32)
    draws = np.random.RandomState(seed).randint(0, 2**32, size=len(places), dtype=np.uint32)
    order = list(range(rows))
    for place, other in enumerate((draws % (rows - places) + places).tolist()):
        order[place], order[other] = order[other], order[place]
    indices = np.array(order, dtype=np.uint32)
    indices.setflags(write=False)  # it is kept, and shared
    return indices


def _of_rank(order: Indices, world_size: int, rank: int) -> Indices:
    """DistributedSampler: repeats the first rows until every rank has as many, and deals them out."""
    per_rank = -(-len(order) // world_size)
    return np.resize(order, per_rank * world_size)[rank::world_size]


def _samples(lengths: Lengths, max_seq_len: int, packed: bool) -> Lengths:
    if packed:
        return np.full(packs(lengths, max_seq_len=max_seq_len), max_seq_len, dtype=np.uint32)
    return np.minimum(lengths, np.uint32(max_seq_len))


def _pack_ends(lengths: Lengths, max_seq_len: int) -> list[int]:
    """For each pack, the row after its last."""
    tokens = np.cumsum(np.minimum(lengths, max_seq_len), dtype=np.int64)
    ends: list[int] = []
    while not ends or ends[-1] < len(tokens):
        packed = int(tokens[ends[-1] - 1]) if ends else 0
        ends.append(int(np.searchsorted(tokens, packed + max_seq_len, side="right")))
    return ends if len(tokens) else []


def _filling(lengths: Lengths, max_seq_len: int, wanted: int) -> tuple[int, ...]:
    """The first rows that fill so many packs; all of them again, where they are too few."""
    ends = _pack_ends(lengths, max_seq_len)
    repeats, rest = divmod(wanted, len(ends))
    return (*range(len(lengths)),) * repeats + ((*range(ends[rest - 1]),) if rest else ())


def _nearest_to_the_median(padded: Lengths) -> NDArray[np.intp]:
    return np.argsort(np.abs(padded - np.median(padded)), kind="stable")


def _longest(lengths: Lengths, batches: Indices) -> Indices:
    """The longest batch; the longest row may be among those that the first epoch leaves out."""
    batch: Indices = batches[int(np.argmax(lengths[batches].max(axis=1)))].copy()
    row = int(np.argmax(lengths))
    if lengths[batch].max() < lengths[row]:
        batch[0] = row
    return batch


def _flat(batches: Indices) -> tuple[int, ...]:
    return tuple(int(row) for row in batches.reshape(-1))


def _per_step(total: np.int64, steps: int) -> float:
    return float(total) / steps if steps else 0.0
