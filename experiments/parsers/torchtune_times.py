"""Where the seconds of a fine-tune went, from the clock in its metrics file.

    start-up | step step step | save | step step step | save and the end of the process

A step's time is the one between its line and the line before. Steps after a save or a validation pass would count
that, too, and the first steps of a run are slower than those that follow: both are left out of the mean. What lies
around them is then the rest, so that start-up, steps, validation and saves add up to the whole job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.parsers.torchtune import StepRecord, ValidationRecord

SLOW_FIRST_STEPS = 3  # left out where a run is long enough


@dataclass(frozen=True)
class Times:
    seconds_per_step: float | None = None  # mean of the steady steps
    steady_steps: int = 0  # that it is the mean of
    startup_seconds: float | None = None  # from the job's start to the first step's beginning
    validation_seconds: float | None = None  # mean of a pass
    checkpoint_seconds: float | None = (
        None  # mean of an epoch; the last one's includes the end of the process
    )


def times(
    steps: Sequence[StepRecord],
    validations: Sequence[ValidationRecord],
    *,
    steps_per_epoch: int | None,
    started_at: float,
    ended_at: float | None,
) -> Times:
    """`ended_at` is None for a run that did not come to its end. Nothing is known of a file without a clock."""
    clock = {record.step: record.at for record in steps if record.at is not None}
    if not clock:
        return Times()
    after = {record.step: record.at for record in validations if record.at is not None}
    steady = _steady(clock, after, steps_per_epoch)
    if not steady:
        return Times()
    pace = sum(steady) / len(steady)
    first = min(clock)
    return Times(
        seconds_per_step=pace,
        steady_steps=len(steady),
        startup_seconds=max(0.0, clock[first] - pace - started_at) if first == 1 else None,
        validation_seconds=_mean([after[step] - clock[step] for step in after if step in clock]),
        checkpoint_seconds=_mean(_saves(clock, after, steps_per_epoch, pace, ended_at)),
    )


Clock = dict[int, float]


def _steady(clock: Clock, validated: Clock, steps_per_epoch: int | None) -> list[float]:
    warm = min(clock) - 1 + min(SLOW_FIRST_STEPS, max(1, len(clock) // 3))
    return [
        clock[step] - clock[step - 1]
        for step in clock
        if step - 1 in clock
        and step > warm
        and step - 1 not in validated
        and not _is_epochs_end(step - 1, steps_per_epoch)
    ]


def _saves(
    clock: Clock, validated: Clock, steps_per_epoch: int | None, pace: float, ended_at: float | None
) -> list[float]:
    """From an epoch's last line to its successor's first step."""
    last = max(clock)
    ends = [step for step in clock if _is_epochs_end(step, steps_per_epoch) and step + 1 in clock]
    gaps = [clock[step + 1] - pace - validated.get(step, clock[step]) for step in ends]
    if ended_at is not None:
        gaps.append(ended_at - validated.get(last, clock[last]))
    return [max(0.0, gap) for gap in gaps]


def _is_epochs_end(step: int, steps_per_epoch: int | None) -> bool:
    return steps_per_epoch is not None and step % steps_per_epoch == 0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
