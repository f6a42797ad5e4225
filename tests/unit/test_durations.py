"""The limits that people write down."""

import pytest

from experiments.durations import slurm_time, upper_seconds
from experiments.figures import Figure, Grade, no_evidence


def told(value: float, high: float | None = None) -> Figure:
    return Figure(value=value, high=high, grade=Grade.TOLD, n=1)


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        (20, "00:05:00"),
        (301, "00:10:00"),
        (3600, "01:00:00"),
        (3601, "01:15:00"),
        (4 * 3600 + 1, "05:00:00"),
        (24 * 3600, "1-00:00:00"),
        (24 * 3600 + 1, "1-12:00:00"),
    ],
)
def test_times_are_rounded_up_as_slurm_users_do(upper: float, expected: str) -> None:
    assert slurm_time(told(upper / 3, high=upper)) == expected


def test_twice_the_value_stands_for_a_bound_that_is_not_known() -> None:
    assert upper_seconds(told(100)) == 200
    assert upper_seconds(told(100, high=130)) == 130


def test_without_evidence_no_time_is_suggested() -> None:
    assert slurm_time(no_evidence()) is None
