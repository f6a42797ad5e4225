"""Which batch size to take: the largest whose memory fits the device, as far as the evidence bears."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from experiments.conditions import Conditions, Metric
from experiments.estimation.bounds import exceeded
from experiments.estimation.choosing import answer_to, figure
from experiments.estimation.evidence import Evidence
from experiments.estimation.features import longest_batch_tokens
from experiments.estimation.groups import Answer
from experiments.figures import Figure, Grade

REACH = 2.0  # times the longest batch that was observed: an affine fit is not trusted beyond
LEAST_MARGIN = 0.02  # of the value, where its bounds are not known
ERRORS_OF_MARGIN = 2.0  # times the fit's error in runs that were left out, likewise
_MEMORY = Metric.PEAK_DEVICE_MEMORY_MIB
ConditionsOf = Callable[[int], Conditions]


@dataclass(frozen=True, kw_only=True)
class Advice:
    batch_size: int
    gradient_accumulation_steps: int  # that keeps the effective batch
    peak_device_memory_mib: Figure
    upper_mib: float  # what was compared with the device
    reason: str
    observations: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """A batch size whose memory fits."""

    batch_size: int
    figure: Figure
    upper_mib: float
    margin: str  # how the upper bound came about


def advise_batch_size(
    evidence: Evidence,
    conditions_of: ConditionsOf,
    *,
    device_memory_mib: float,
    headroom: float = 0.1,
    batch_size: int,
    gradient_accumulation_steps: int,
    rows: int,
) -> Advice | None:
    """A larger batch that fits, or a smaller one where the one asked for does not; None if there is nothing better.

    `conditions_of` a batch size has the accumulation that keeps the effective batch: only divisors are asked for.
    """
    effective = batch_size * gradient_accumulation_steps
    candidates = [size for size in range(1, min(effective, rows) + 1) if effective % size == 0]
    best = largest_that_fits(
        evidence, conditions_of, candidates, device_memory_mib=device_memory_mib, headroom=headroom
    )
    if best is None or best.batch_size == batch_size:
        return None
    room = device_memory_mib * (1 - headroom)
    if best.batch_size < batch_size and not _exceeds(evidence, conditions_of(batch_size), room):
        return None
    accumulation = effective // best.batch_size
    return Advice(
        batch_size=best.batch_size,
        gradient_accumulation_steps=accumulation,
        peak_device_memory_mib=best.figure,
        upper_mib=best.upper_mib,
        reason=_reason(best, accumulation, device_memory_mib, headroom)
        + _time(evidence, conditions_of, batch_size, best.batch_size),
        observations=best.figure.observations,
    )


def largest_that_fits(
    evidence: Evidence,
    conditions_of: ConditionsOf,
    candidates: Iterable[int],
    *,
    device_memory_mib: float,
    headroom: float = 0.1,
) -> Fitting | None:
    """The largest of these batch sizes before the first that does not fit, or that evidence does not bear."""
    room = device_memory_mib * (1 - headroom)
    best = None
    for size in sorted(candidates):
        found = _fitting(evidence, conditions_of(size), size, device_memory_mib)
        if found is None:
            continue
        if found.upper_mib > room:
            break
        best = found
    return best


def _fitting(
    evidence: Evidence, conditions: Conditions, size: int, device_memory_mib: float
) -> Fitting | None:
    """None where there is no evidence; without an upper bound where it ran out of memory, or is out of reach."""
    answer = answer_to(evidence, conditions, _MEMORY)
    if answer is None or not _is_in_reach(answer, conditions):
        return None
    of_size = figure(evidence, conditions, _MEMORY)
    if _ran_out(evidence, conditions, device_memory_mib):
        return Fitting(batch_size=size, figure=of_size, upper_mib=float("inf"), margin="it ran out of memory")
    return _with_margin(size, of_size, answer)


def _with_margin(size: int, of_size: Figure, answer: Answer) -> Fitting:
    if of_size.high is not None:
        return Fitting(
            batch_size=size,
            figure=of_size,
            upper_mib=of_size.high,
            margin="the upper end of its 90 % interval",
        )
    margin = max(LEAST_MARGIN, ERRORS_OF_MARGIN * (answer.error_ratio or 0.0))
    said = f"with a margin of {margin:.0%}, since too few estimates were compared yet to give an interval"
    return Fitting(
        batch_size=size, figure=of_size, upper_mib=(of_size.value or 0.0) * (1 + margin), margin=said
    )


def _is_in_reach(answer: Answer, conditions: Conditions) -> bool:
    """What a person told holds for what it was told of."""
    tokens, observed = longest_batch_tokens(conditions), answer.reach.get("longest_batch_tokens")
    if answer.grade == Grade.TOLD:
        return True
    return tokens is not None and observed is not None and tokens <= REACH * observed


def _exceeds(evidence: Evidence, conditions: Conditions, room: float) -> bool:
    """Whether what is known of this speaks against it; what is merely not known does not."""
    of_asked = figure(evidence, conditions, _MEMORY)
    return max(of_asked.value or 0.0, of_asked.low or 0.0) > room


def _ran_out(evidence: Evidence, conditions: Conditions, device_memory_mib: float) -> bool:
    """Whether a run that asked for no more ran out of memory on a device with no less."""
    return any(
        (bound.conditions.device_memory_mib or device_memory_mib) >= device_memory_mib
        for bound in exceeded(evidence, conditions, _MEMORY)
    )


def _reason(best: Fitting, accumulation: int, device_memory_mib: float, headroom: float) -> str:
    grade = f"{best.figure.grade}, {best.figure.n} run{'s' if best.figure.n != 1 else ''}"
    return (
        f"Batch size {best.batch_size} with {accumulation} accumulation step{'s' if accumulation != 1 else ''} "
        f"is estimated to take {best.figure.value or 0:,.0f} MiB ({grade}), at most {best.upper_mib:,.0f} MiB "
        f"({best.margin}), of {device_memory_mib:,.0f} MiB with {headroom:.0%} head-room. Batches of more than "
        f"{REACH:g} times the tokens that were observed are not proposed."
    )


def _time(evidence: Evidence, conditions_of: ConditionsOf, asked: int, advised: int) -> str:
    """What is known of the time of a step beside it, which a larger batch need not shorten."""
    before, after = (
        figure(evidence, conditions_of(size), Metric.SECONDS_PER_STEP).value for size in (asked, advised)
    )
    if not before or not after:
        return " Whether it is faster has no evidence."
    return f" A step is estimated to take {after:.3g} s instead of {before:.3g} s."
