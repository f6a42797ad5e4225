"""How many optimizer steps torchtune 0.6.1 takes (its DataLoader drops the last incomplete batch)."""

import math


def steps_per_epoch(
    *,
    rows: int,
    batch_size: int,
    gradient_accumulation_steps: int = 1,
    world_size: int = 1,
    max_steps_per_epoch: int | None = None,
) -> int:
    """Optimizer steps in one epoch; 0 means that nothing would be trained.

    `rows` is the number of samples, or of packs when the dataset is packed.
    """
    rows_per_rank = math.ceil(rows / world_size)
    steps = rows_per_rank // batch_size // gradient_accumulation_steps
    return steps if max_steps_per_epoch is None else min(steps, max_steps_per_epoch)
