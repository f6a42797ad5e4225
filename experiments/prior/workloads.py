"""What an earlier run was given, where its dataset and model are known here: its batches follow from them."""

from dataclasses import replace
from datetime import datetime

from experiments import batches, catalogue
from experiments.catalogue import FoundDataset
from experiments.conditions import Conditions

_SPLIT = "train"


def packed(conditions: Conditions) -> Conditions:
    """With the lengths of packs, where that is what it was trained on: every pack is as long as any other."""
    batch, length = conditions.batch_size, conditions.max_seq_len
    accumulation = conditions.gradient_accumulation_steps
    if not conditions.packed or conditions.tokens_per_step is not None:
        return conditions
    if batch is None or length is None or accumulation is None:
        return conditions
    return replace(
        conditions,
        tokens_per_step=float(batch * accumulation * length),
        squares_per_step=float(batch * accumulation * length**2),
        longest_batch_tokens=batch * length,
        longest_sequence=length,
    )


def of_dataset(conditions: Conditions, dataset: FoundDataset, *, now: datetime) -> Conditions:
    """With the lengths of its batches, where what they follow from is known. Raises NotFound for an unknown model."""
    batch, length = conditions.batch_size, conditions.max_seq_len
    accumulation = conditions.gradient_accumulation_steps
    if conditions.packed is not False or conditions.tokens_per_step is not None or not conditions.model_name:
        return conditions
    if not batch or not length or not accumulation:
        return conditions
    model = catalogue.find_model(conditions.model_name)
    found = batches.workload(
        catalogue.token_lengths(model=model, dataset=dataset, split=_SPLIT, now=now),
        batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_seq_len=length,
        packed=False,
        epochs=conditions.epochs or 1,
        max_steps_per_epoch=conditions.max_steps_per_epoch,
        world_size=conditions.world_size or 1,
    )
    if found is None:
        return conditions
    return replace(
        conditions,
        rows=conditions.rows or found.samples,
        tokens_per_step=found.tokens_per_step,
        squares_per_step=found.squares_per_step,
        longest_batch_tokens=found.longest_batch_tokens,
        longest_sequence=found.longest_sequence,
    )
