"""Where the seconds of a fine-tune went: its parts add up to the whole job."""

from dataclasses import replace

import pytest

from experiments.parsers.torchtune import StepRecord, ValidationRecord
from experiments.parsers.torchtune_times import Times, times

STARTED, STARTUP, STEP, SAVE, PASS = 1000.0, 8.0, 2.0, 5.0, 3.0


def run(
    *, epochs: int = 2, steps: int = 10, validated: bool = False, slow_first: float = 0.0
) -> tuple[list[StepRecord], list[ValidationRecord], float]:
    """Its lines, and when it ended."""
    now, records, validations = STARTED + STARTUP, [], []
    for step in range(1, epochs * steps + 1):
        now += STEP + (slow_first if step == 1 else 0)
        records.append(StepRecord(step, 1.0, len(records) + 1, at=now))
        if validated and step % steps == 0:
            now += PASS
            validations.append(ValidationRecord(step, 1.0, 0, at=now))
        now += SAVE if step % steps == 0 else 0
    return records, validations, now


def measured(*, steps: int = 10, slow_first: float = 0.0, validated: bool = False, epochs: int = 2) -> Times:
    records, validations, ended_at = run(
        steps=steps, slow_first=slow_first, validated=validated, epochs=epochs
    )
    return times(records, validations, steps_per_epoch=steps, started_at=STARTED, ended_at=ended_at)


@pytest.mark.parametrize("validated", [False, True])
def test_steps_saves_and_validation_are_told_apart(validated: bool) -> None:
    found = measured(validated=validated)
    assert found.seconds_per_step == pytest.approx(STEP)
    assert found.startup_seconds == pytest.approx(STARTUP)
    assert found.checkpoint_seconds == pytest.approx(SAVE)
    assert found.validation_seconds == (pytest.approx(PASS) if validated else None)


def test_a_slow_first_step_belongs_to_the_start_up() -> None:
    found = measured(slow_first=4.0)
    assert found.seconds_per_step == pytest.approx(STEP)
    assert found.startup_seconds == pytest.approx(STARTUP + 4.0)


def test_the_parts_add_up_to_the_job() -> None:
    records, validations, ended_at = run(validated=True, slow_first=4.0)
    found = times(records, validations, steps_per_epoch=10, started_at=STARTED, ended_at=ended_at)
    assert found.seconds_per_step and found.startup_seconds
    assert found.checkpoint_seconds and found.validation_seconds
    parts = 20 * found.seconds_per_step + found.startup_seconds
    parts += 2 * (found.checkpoint_seconds + found.validation_seconds)
    assert parts == pytest.approx(ended_at - STARTED)


def test_the_first_steps_are_left_out_where_there_are_enough() -> None:
    assert measured(steps=10).steady_steps == 20 - 3 - 1
    assert measured(steps=3, epochs=1).steady_steps == 2


@pytest.mark.parametrize("validated", [False, True])
def test_a_step_after_a_validation_in_an_epoch_is_not_slow(validated: bool) -> None:
    records, _, ended_at = run(epochs=1, steps=12)
    shift = 100.0 if validated else 0.0
    moved = [
        StepRecord(r.step, r.loss, r.line, at=(r.at or 0) + (shift if r.step > 6 else 0)) for r in records
    ]
    passes = [ValidationRecord(6, 1.0, 0, at=(records[5].at or 0) + shift)] if validated else []
    found = times(moved, passes, steps_per_epoch=12, started_at=STARTED, ended_at=ended_at + shift)
    assert found.seconds_per_step == pytest.approx(STEP)


def test_of_a_run_that_did_not_end_the_last_save_is_not_known() -> None:
    records, _, _ = run(epochs=1)
    found = times(records, [], steps_per_epoch=10, started_at=STARTED, ended_at=None)
    assert found.seconds_per_step == pytest.approx(STEP)
    assert found.checkpoint_seconds is None


def test_a_resumed_run_does_not_tell_its_start_up() -> None:
    records, _, ended_at = run()
    later = [record for record in records if record.step > 10]
    found = times(later, [], steps_per_epoch=10, started_at=STARTED, ended_at=ended_at)
    assert found.seconds_per_step == pytest.approx(STEP)
    assert found.startup_seconds is None


@pytest.mark.parametrize("records", [[], [StepRecord(1, 1.0, 1)], [StepRecord(1, 1.0, 1, at=5.0)]])
def test_without_a_clock_or_with_one_step_nothing_is_known(records: list[StepRecord]) -> None:
    assert times(records, [], steps_per_epoch=1, started_at=0.0, ended_at=9.0) == Times()


def test_the_first_steps_of_a_job_that_goes_on_are_slow_too_and_its_start_up_is_not_the_runs() -> None:
    records, validations, ended_at = run(epochs=3)
    late = [replace(r, at=r.at + (4.0 if r.step > 11 else 0)) for r in records[10:] if r.at]
    found = times(late, validations, steps_per_epoch=10, started_at=STARTED, ended_at=ended_at + 4.0)
    assert found.seconds_per_step == pytest.approx(STEP)
    assert found.startup_seconds is None
