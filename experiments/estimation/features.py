"""The numbers that time and memory are fitted to, as far as conditions tell them."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from experiments.conditions import Conditions

Array = npt.NDArray[np.float64]
Columns = Mapping[str, Array]
SAME_WITHIN = 0.01  # relative; numbers that differ by less are the same conditions


def tokens_per_step(conditions: Conditions) -> float | None:
    """Of packs, which torchtune pads to max_seq_len, it follows from the settings."""
    length = conditions.max_seq_len
    if conditions.tokens_per_step is not None or not (conditions.packed and length):
        return conditions.tokens_per_step
    samples = _samples_per_step(conditions)
    return None if samples is None else float(samples * length)


def squares_per_step(conditions: Conditions) -> float | None:
    length = conditions.max_seq_len
    if conditions.squares_per_step is not None or not (conditions.packed and length):
        return conditions.squares_per_step
    samples = _samples_per_step(conditions)
    return None if samples is None else float(samples * length**2)


def longest_batch_tokens(conditions: Conditions) -> float | None:
    length, batch = conditions.max_seq_len, conditions.batch_size
    if conditions.longest_batch_tokens is None and conditions.packed and length and batch:
        return float(batch * length)
    return _number(conditions.longest_batch_tokens)


def longest_sequence(conditions: Conditions) -> float | None:
    if conditions.longest_sequence is None and conditions.packed:
        return _number(conditions.max_seq_len)
    return _number(conditions.longest_sequence)


def trainable_parameters(conditions: Conditions) -> float | None:
    """All of them where there is no adapter."""
    if conditions.trainable_parameters is None and conditions.lora_rank is None:
        return _number(conditions.parameter_count)
    return _number(conditions.trainable_parameters)


def accumulation(conditions: Conditions) -> float | None:
    return _number(conditions.gradient_accumulation_steps)


def accumulates(conditions: Conditions) -> float | None:
    """1 where gradients of earlier micro-batches lie in memory while a batch is computed, else 0."""
    steps = conditions.gradient_accumulation_steps
    return None if steps is None else float(steps > 1)


def rows(conditions: Conditions) -> float | None:
    return _number(conditions.rows)


def adapter_rank(conditions: Conditions) -> float | None:
    return float(conditions.lora_rank or 0)


FEATURES: Mapping[str, Callable[[Conditions], float | None]] = {
    "tokens_per_step": tokens_per_step,
    "squares_per_step": squares_per_step,
    "gradient_accumulation_steps": accumulation,
    "longest_batch_tokens": longest_batch_tokens,
    "longest_sequence": longest_sequence,
    "accumulates": accumulates,
    "trainable_parameters": trainable_parameters,
    "rows": rows,
    "lora_rank": adapter_rank,
}


def point(conditions: Conditions, names: tuple[str, ...]) -> Array:
    """The values of these features; what is unknown is not a number."""
    values = (FEATURES[name](conditions) for name in names)
    return np.array([np.nan if value is None else value for value in values])


def _samples_per_step(conditions: Conditions) -> int | None:
    batch, accumulation_steps = conditions.batch_size, conditions.gradient_accumulation_steps
    return None if batch is None or accumulation_steps is None else batch * accumulation_steps


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)
