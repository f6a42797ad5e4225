from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.conditions import Conditions
from experiments.estimation import Advice, Evidence, Fact, advise_batch_size, largest_that_fits
from tests.unit.estimation_facts import conditions, peak, step, told

WEIGHTS, PER_SAMPLE = 2_400.0, 800.0


def observed(*batches: int) -> list[Fact]:
    return [peak(WEIGHTS + PER_SAMPLE * batch, batch_size=batch) for batch in batches]


def keeping(effective: int) -> Callable[[int], Conditions]:
    return lambda batch: conditions(batch_size=batch, gradient_accumulation_steps=effective // batch)


def advise(facts: list[Fact], *, asked: int = 2, accumulation: int = 16, **more) -> Advice | None:
    given_ = {"device_memory_mib": 24_000, "rows": 8_000, **more}
    return advise_batch_size(
        Evidence(facts, given_.pop("errors", ())),
        keeping(asked * accumulation),
        batch_size=asked,
        gradient_accumulation_steps=accumulation,
        **given_,
    )


def test_the_largest_batch_that_fits_is_proposed_with_the_accumulation_that_keeps_the_effective_batch() -> (
    None
):
    facts = observed(1, 2, 4, 8)
    advice = advise(facts)
    assert advice is not None
    # 2,400 + 16 * 800 = 15,200 of 21,600; the next divisor of 32 takes 28,000.
    assert (advice.batch_size, advice.gradient_accumulation_steps) == (16, 2)
    assert advice.peak_device_memory_mib.value == pytest.approx(15_200)
    assert set(advice.observations) == {one.id for one in facts}
    assert "16" in advice.reason and "24,000 MiB" in advice.reason and "10% head-room" in advice.reason


def test_a_margin_is_added_and_said_while_bounds_are_unknown() -> None:
    facts = observed(1, 2, 4, 8)
    advice = advise(facts)
    assert advice is not None and advice.upper_mib == pytest.approx(15_200 * 1.02)
    assert "margin of 2%" in advice.reason
    assert advise(facts, device_memory_mib=15_300, headroom=0.0).batch_size == 8


def test_known_bounds_are_used_instead() -> None:
    errors = [("peak_device_memory_mib", "extrapolated", sign * 0.1) for sign in (1, -1) * 5]
    advice = advise(observed(1, 2, 4, 8), errors=errors)
    assert advice is not None and advice.upper_mib == advice.peak_device_memory_mib.high
    assert "90 % interval" in advice.reason


def test_only_divisors_of_the_effective_batch_are_proposed() -> None:
    advice = advise(observed(1, 2, 4, 8), asked=3, accumulation=3, device_memory_mib=80_000)
    assert advice is not None and (advice.batch_size, advice.gradient_accumulation_steps) == (9, 1)


def test_the_effective_batch_is_never_exceeded() -> None:
    assert advise(observed(1, 2, 4, 8), asked=4, accumulation=1, device_memory_mib=80_000) is None


def test_more_than_twice_the_observed_batch_is_not_proposed() -> None:
    advice = advise(observed(1, 2), device_memory_mib=80_000)
    assert advice is not None and advice.batch_size == 4
    assert "2 times the tokens that were observed" in advice.reason


def test_a_batch_that_does_not_fit_gets_a_smaller_one_proposed() -> None:
    advice = advise(observed(1, 2, 4, 8), asked=32, accumulation=1)
    assert advice is not None and (advice.batch_size, advice.gradient_accumulation_steps) == (16, 2)


def test_a_batch_that_is_merely_not_known_to_fit_is_left_alone() -> None:
    assert advise(observed(1, 2, 4), asked=16, accumulation=1) is None


def test_what_ran_out_of_memory_is_never_proposed_though_the_fit_says_it_fits() -> None:
    bound = peak(23_900, bound=True, batch_size=16, device_memory_mib=24_000)
    advice = advise([*observed(1, 2, 4, 8), bound], headroom=0.0)
    assert advice is not None and advice.batch_size == 8


def test_running_out_on_a_smaller_device_does_not_rule_out_a_larger_one() -> None:
    bound = peak(11_900, bound=True, batch_size=16, device_memory_mib=12_000)
    advice = advise([*observed(1, 2, 4, 8), bound])
    assert advice is not None and advice.batch_size == 16


@pytest.mark.parametrize("facts", [[], [step(0.5)], [peak(9_000, packed=True)], observed(2)])
def test_without_evidence_there_is_no_advice(facts: list[Fact]) -> None:
    assert advise(facts) is None


def test_what_a_person_told_holds_for_the_batch_that_it_was_told_of() -> None:
    facts = [told("peak_device_memory_mib", 12_000.0, batch_size=8)]
    advice = advise(facts)
    assert advice is not None and advice.batch_size == 8


def test_a_step_that_would_take_longer_is_said_to() -> None:
    times = [
        step(seconds, batch_size=batch, gradient_accumulation_steps=32 // batch)
        for batch, seconds in ((2, 1.0), (16, 1.5))
    ]
    advice = advise([*observed(1, 2, 4, 8), *times])
    assert advice is not None and "1.5 s instead of 1 s" in advice.reason


@given(
    weights=st.floats(100, 30_000),
    per_sample=st.floats(10, 3_000),
    device=st.floats(1_000, 100_000),
    headroom=st.floats(0, 0.5),
    more=st.floats(1.0, 2.0),
)
@settings(deadline=None)
def test_advice_is_never_above_the_fit_and_grows_with_the_device(
    weights: float, per_sample: float, device: float, headroom: float, more: float
) -> None:
    evidence = Evidence([peak(weights + per_sample * batch, batch_size=batch) for batch in (1, 2, 4, 8)])

    def largest(memory: float) -> int:
        found = largest_that_fits(
            evidence,
            lambda batch: conditions(batch_size=batch),
            range(1, 33),
            device_memory_mib=memory,
            headroom=headroom,
        )
        return found.batch_size if found else 0

    size = largest(device)
    assert size <= 16
    assert size == 0 or weights + per_sample * size <= device * (1 - headroom)
    assert size == 16 or weights + per_sample * (size + 1) > device * (1 - headroom) / 1.03
    assert largest(device * more) >= size
