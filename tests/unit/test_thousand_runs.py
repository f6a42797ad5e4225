"""What the benchmark of a thousand runs rests on: what it calls a fault, and how it counts memory."""

import mmap
import os
from dataclasses import replace

from tests.benchmarks.shared_memory import PeakMemory, pss_mib
from tests.benchmarks.thousand_runs import Found

GOOD = Found(
    runs=1000,
    plan_seconds=3.0,
    all_running_seconds=1.0,
    still_running=1000,
    all_ended_seconds=124.0,
    succeeded=1000,
    idle_mib=500,
    peak_mib=700,
    pages_ms={},
)


def test_a_lab_that_holds_all_runs_has_no_fault() -> None:
    assert GOOD.faults(most_mib=8192) == []


def test_what_the_lab_did_not_hold_is_told() -> None:
    never = replace(GOOD, all_running_seconds=None, still_running=3)
    assert never.faults(most_mib=8192) == ["the 1000 runs never ran all at the same time"]
    assert replace(GOOD, still_running=999).faults(most_mib=8192) == [
        "only 999 still ran when the pages had been seen; give more --seconds"
    ]
    assert replace(GOOD, succeeded=998).faults(most_mib=8192) == ["2 of 1000 runs did not succeed"]
    assert GOOD.faults(most_mib=600) == ["700 MiB are more than 600"]


def test_memory_that_processes_share_is_counted_once() -> None:
    with mmap.mmap(-1, 64 * 1024 * 1024) as shared:
        shared.write(b"x" * len(shared))
        alone = pss_mib([os.getpid()])
        told, told_by = os.pipe()
        gate, opened = os.pipe()
        if (child := os.fork()) == 0:
            os.close(opened)
            os.write(told_by, shared[:1])
            os.read(gate, 1)
            os._exit(0)
        os.read(told, 1)
        both = pss_mib([os.getpid(), child])
        os.close(opened)
        os.waitpid(child, 0)
    assert alone > 64
    assert both < alone + 32


def test_the_peak_is_kept_when_it_has_passed() -> None:
    peak = PeakMemory(iter([[os.getpid()], []]).__next__)
    peak.sample()
    most = peak.mib
    peak.sample()
    assert peak.mib == most > 1
