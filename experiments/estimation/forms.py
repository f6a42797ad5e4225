"""Which conditions move which metric, and how: the one table that says what may speak for what.

Facts speak for a run when the conditions named in `same` are equal. What is in `features` may differ: a fit spans it.

Time of a step: gamma + accumulation * alpha + beta * padded tokens + delta * sum(batch * length^2), and the adapter's
share of it. Memory: a constant + b * tokens of the longest batch + c * trainable parameters (an adapter's rank
enters linearly, and its optimizer state with it). Both are affine, never proportional.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from experiments.conditions import EVALUATE, EVALUATE_ADAPTER, REQUIRED, Conditions, Metric
from experiments.estimation.features import Array, Columns

EVALUATIONS = (EVALUATE, EVALUATE_ADAPTER)  # the recipes of an evaluation's conditions
BYTES_OF = {"fp32": 4, "bf16": 2, "fp16": 2}
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Term:
    """A column of a fit; `is_base` terms are fitted first, the others where runs that were left out speak for them."""

    name: str
    needs: tuple[str, ...] = ()
    column: Callable[[Columns], Array]
    is_base: bool = False
    # How far a fit without this term bears, relative to the only value that was observed.
    near: tuple[float, float] = (0.75, 1.25)
    computed: Callable[[Conditions], float | None] | None = None  # the coefficient by arithmetic


@dataclass(frozen=True, kw_only=True)
class Form:
    name: str
    same: tuple[str, ...]
    required: tuple[str, ...]  # of these and of the place; where another is unknown it is taken as equal
    place: tuple[str, ...] = ("device_kind",)
    preferred: tuple[str, ...] = ("software",)  # equal if possible; else it is said, and called extrapolated
    features: tuple[str, ...] = ()
    terms: tuple[Term, ...]

    @cached_property
    def identity(self) -> Callable[[Conditions], tuple[Any, ...]]:
        """The values of `same`, `place` and `preferred`, in this order."""
        getter = attrgetter(*self.fields)
        return lambda conditions: _of_steps(self.fields, getter(conditions))

    @cached_property
    def needed(self) -> tuple[bool, ...]:
        """Of each feature, whether nothing can be said without it."""
        needs = {name for term in self.terms if term.is_base for name in term.needs}
        return tuple(name in needs for name in self.features)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return (*self.same, *self.place, *self.preferred)


def of(metric: str, conditions: Conditions) -> Form | None:
    """None for what is not estimated, such as a loss."""
    if conditions.recipe in EVALUATIONS and metric in _OF_EVALUATIONS:
        return _OF_EVALUATIONS[metric]
    return _FORMS.get(metric)


def _of_steps(fields: tuple[str, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A recipe that validates now and then takes the same steps as the one that never does."""
    recipe = fields.index("recipe") if "recipe" in fields else None
    if recipe is None or "_validating_" not in values[recipe]:
        return values
    return (*values[:recipe], values[recipe].replace("_validating_", "_finetune_"), *values[recipe + 1 :])


def _ones(columns: Columns) -> Array:
    return np.ones(len(next(iter(columns.values()))))


def _column(feature: str) -> Callable[[Columns], Array]:
    return lambda columns: columns[feature]


def _product(first: str, second: str) -> Callable[[Columns], Array]:
    return lambda columns: columns[first] * columns[second]


def _linear(name: str, feature: str, **more: Any) -> Term:
    return Term(name=name, needs=(feature,), column=_column(feature), **more)


def _bilinear(name: str, first: str, second: str) -> Term:
    return Term(name=name, needs=(first, second), column=_product(first, second))


def _state_mib(conditions: Conditions) -> float | None:
    """Of a trainable parameter on its device: itself, its gradient, and its optimizer's moments."""
    copies = {"AdamW": 4, "Adam": 4, "SGD": 2}.get(conditions.optimizer)
    size = BYTES_OF.get(conditions.precision)
    return None if copies is None or size is None else copies * size / MIB


CONSTANT = Term(name="constant", column=_ones, is_base=True)
_PER_PARAMETER = _linear("per trainable parameter", "trainable_parameters")

_STEP_TERMS = (
    _linear("per token", "tokens_per_step", is_base=True),
    _linear("per micro-batch", "gradient_accumulation_steps", is_base=True),
    Term(name="per step", column=_ones),
    _linear("per squared token", "squares_per_step"),
    _PER_PARAMETER,
    _bilinear("per token and trainable parameter", "tokens_per_step", "trainable_parameters"),
)
_HOST_TERMS = (
    CONSTANT,
    # A longer batch takes more; by how much, a single length cannot tell.
    _linear("per token of the longest batch", "longest_batch_tokens", is_base=True, near=(0.5, 1.01)),
    _PER_PARAMETER,
    _bilinear("per squared token of the longest batch", "longest_batch_tokens", "longest_sequence"),
    _bilinear("per token and trainable parameter", "longest_batch_tokens", "trainable_parameters"),
    _linear("while gradients accumulate", "accumulates"),
    _bilinear("per trainable parameter while gradients accumulate", "accumulates", "trainable_parameters"),
)

# The host holds what is trained only where it is the device, too.
_DEVICE_TERMS = tuple(
    replace(term, computed=_state_mib) if term is _PER_PARAMETER else term for term in _HOST_TERMS
)

_ADAPTED = ("model_shape", "recipe", "precision", "lora_modules")
_TRAINED = (
    *_ADAPTED,
    *("optimizer", "compiled", "activation_checkpointing", "activation_offloading"),
    *("attention", "loss_chunks", "packed", "world_size"),
)
_TIMED = ("device_kind", "cpu_threads")
_BESIDE = ("software", "co_runners")


def _form(metric: Metric, same: tuple[str, ...], terms: tuple[Term, ...], **more: Any) -> Form:
    place = more.pop("place", ("device_kind",))
    required = tuple(name for name in REQUIRED[metric] if name in (*same, *place))
    return Form(name=str(metric), same=same, place=place, required=required, terms=terms, **more)


def _peak(metric: Metric, terms: tuple[Term, ...]) -> Form:
    features = ("longest_batch_tokens", "longest_sequence", "accumulates", "trainable_parameters")
    return _form(metric, _TRAINED, terms, features=features)


def _of_evaluation(metric: Metric, *, of_engine: bool = False, **more: Any) -> Form:
    """An engine starts for base and adapters alike; what it then does for them differs."""
    same = ("model_shape", "precision", "max_seq_len", "world_size", *(() if of_engine else ("recipe",)))
    terms = (CONSTANT, _linear("per rank of the adapter", "lora_rank"))
    return Form(
        name=f"{EVALUATE} {metric}",
        same=same,
        required=("model_shape", "device_kind"),
        terms=terms,
        features=("lora_rank",),
        **more,
    )


_FORMS: dict[str, Form] = {
    Metric.SECONDS_PER_STEP: _form(
        Metric.SECONDS_PER_STEP,
        _TRAINED,
        _STEP_TERMS,
        place=_TIMED,
        preferred=_BESIDE,
        features=(
            *("tokens_per_step", "squares_per_step"),
            *("gradient_accumulation_steps", "trainable_parameters"),
        ),
    ),
    Metric.PEAK_DEVICE_MEMORY_MIB: _peak(Metric.PEAK_DEVICE_MEMORY_MIB, _DEVICE_TERMS),
    Metric.PEAK_HOST_MEMORY_MIB: _peak(Metric.PEAK_HOST_MEMORY_MIB, _HOST_TERMS),
    Metric.MEMORY_AFTER_INIT_MIB: _form(
        Metric.MEMORY_AFTER_INIT_MIB,
        (*_ADAPTED, "world_size"),
        (CONSTANT, _PER_PARAMETER),
        features=("trainable_parameters",),
    ),
    Metric.STARTUP_SECONDS: _form(
        Metric.STARTUP_SECONDS,
        ("model_shape", "recipe", "precision", "packed", "compiled", "world_size"),
        (CONSTANT, _linear("per row", "rows")),
        place=_TIMED,
        preferred=_BESIDE,
        features=("rows",),
    ),
    Metric.CHECKPOINT_SECONDS: _form(
        Metric.CHECKPOINT_SECONDS,
        (*_ADAPTED, "world_size"),
        (CONSTANT, _PER_PARAMETER),
        place=_TIMED,
        preferred=_BESIDE,
        features=("trainable_parameters",),
    ),
    Metric.VALIDATION_SECONDS: _form(
        Metric.VALIDATION_SECONDS,
        (*_TRAINED, "batch_size", "max_seq_len"),
        (CONSTANT, _linear("per row", "rows")),
        place=_TIMED,
        preferred=_BESIDE,
        features=("rows",),
    ),
    Metric.CHECKPOINT_DISK_MIB: _form(
        Metric.CHECKPOINT_DISK_MIB,
        _ADAPTED,
        (CONSTANT, _PER_PARAMETER),
        place=(),
        features=("trainable_parameters",),
    ),
    Metric.ENGINE_STARTUP_SECONDS: _of_evaluation(
        Metric.ENGINE_STARTUP_SECONDS, of_engine=True, place=_TIMED, preferred=_BESIDE
    ),
    Metric.SECONDS_PER_PREDICTION: _of_evaluation(
        Metric.SECONDS_PER_PREDICTION, place=_TIMED, preferred=_BESIDE
    ),
}
_OF_EVALUATIONS: dict[str, Form] = {
    metric: _of_evaluation(metric) for metric in (Metric.PEAK_DEVICE_MEMORY_MIB, Metric.PEAK_HOST_MEMORY_MIB)
}
