"""The policies by which runs are launched again."""

from typing import Any

import pytest

from experiments.retries import Circumstances, Launched, retry
from experiments.states import MAX_LAUNCHES, REASONS, Again, FinishReason

EVERYWHERE = Circumstances(node_name="a", has_other_node=True, shared_engine=True)
FIRST = Launched(launches_count=1, device_memory_mib=1024)


@pytest.mark.parametrize("reason", FinishReason)
def test_what_is_launched_again_says_so_and_what_ends_has_the_policy_never(reason: FinishReason) -> None:
    again = retry(reason=reason, run=FIRST, around=EVERYWHERE)
    assert (again is None) == (REASONS[reason].again is Again.NEVER)
    assert again is None or "queued again" in again.told


@pytest.mark.parametrize(
    ("reason", "run", "around"),
    [
        (FinishReason.LAUNCH_FAILED, {"again_before": 1}, {}),
        (FinishReason.LAUNCH_FAILED, {}, {"has_other_node": False}),
        (FinishReason.OUT_OF_MEMORY, {"device_memory_mib": None}, {}),
        (FinishReason.ENGINE_FAILED, {}, {"shared_engine": False}),
        (FinishReason.KILLED, {}, {"shared_engine": False}),
    ],
)
def test_a_policy_with_a_condition_ends_the_run_without_it(
    reason: FinishReason, run: dict[str, Any], around: dict[str, Any]
) -> None:
    launched = Launched(**{"launches_count": 1, "device_memory_mib": 1024, **run})
    circumstances = Circumstances(
        **{"node_name": "a", "has_other_node": True, "shared_engine": True, **around}
    )
    assert retry(reason=reason, run=launched, around=circumstances) is None


@pytest.mark.parametrize("reason", [reason for reason in FinishReason if REASONS[reason].counts_as_launch])
def test_no_launch_that_counts_is_one_too_many(reason: FinishReason) -> None:
    launched = Launched(launches_count=MAX_LAUNCHES, device_memory_mib=1024)
    assert retry(reason=reason, run=launched, around=EVERYWHERE) is None
