"""How long it takes until what a fault hit works again, from the return of the component.

A part works when its mark changes: the number of jobs that a node's agent has started and ended, the ticks of the
control plane, the answers of the web server. Where another fault keeps it from that meanwhile, the time counts from
the return of that one's component, too; and nothing counts while the observer could not see.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.findings import Finding, Rule
from tests.faults.history import Fault, History, Sample

LIMIT_SECONDS = 10.0
PATIENCE_SECONDS = 20.0  # after which what has not recovered at the end of the history never does

MARK_OF = {
    "node": "node:here",
    "second": "node:second",
    "control": "tick",
    "redis": "redis",
    "web": "web",
    "beat": "beat",
    "resident": "launches:here",
    "database": "tick",
    "clock": "tick",
    "supervisor": "job",
}
NEEDS = {
    "node:here": {"node", "control", "database"},
    "node:second": {"second", "control", "database"},
    "launches:here": {"node", "control", "database", "resident"},
    "tick": {"control", "database"},
    "redis": {"redis", "node", "second", "control"},
    "web": {"web", "database"},
    "beat": {"beat", "redis"},
    "job": {"node", "second", "database", "supervisor"},
}


@dataclass(frozen=True, kw_only=True)
class Recovery:
    fault: Fault
    seconds: float  # from the return of its component, and of whatever else it needed
    outage_seconds: float  # from the fault itself


def recoveries(history: History) -> list[Recovery]:
    return [found for found, _ in _looked_at(history) if found]


def slow(history: History) -> Iterator[Finding]:
    found = _looked_at(history)
    for recovery, fault in found:
        if recovery is None:
            yield Finding(Rule.SLOW, f"fault {fault.number} ({fault.kind}) was never recovered from")
    seconds = [recovery.seconds for recovery, _ in found if recovery]
    if seconds and (p99 := percentile(seconds, 99)) > LIMIT_SECONDS:
        worst = max((recovery for recovery, _ in found if recovery), key=lambda each: each.seconds)
        told = f"p99 is {p99:.1f} s; the slowest was {worst.seconds:.1f} s after fault {worst.fault.number} ({worst.fault.kind})"
        yield Finding(Rule.SLOW, told)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _looked_at(history: History) -> list[tuple[Recovery | None, Fault]]:
    """Those of which something can be said."""
    end = history.samples[-1].at if history.samples else 0.0
    found = []
    for fault in history.faults:
        if fault.component not in MARK_OF or fault.returned_at is None:
            continue
        recovery = _recovery(fault, history)
        if recovery or end - fault.returned_at > PATIENCE_SECONDS:
            found.append((recovery, fault))
    return found


def _recovery(fault: Fault, history: History) -> Recovery | None:
    assert fault.returned_at is not None
    mark = MARK_OF[fault.component]
    recovered_at = (
        _end_of_job(fault, history.samples)
        if mark == "job"
        else _first_progress(fault, mark, history.samples)
    )
    if recovered_at is None:
        return None
    since = fault.returned_at
    for other in history.faults:
        hinders = other.component in NEEDS[mark] and other.number != fault.number
        if hinders and other.returned_at and other.at <= recovered_at and other.returned_at > since:
            since = other.returned_at
    since = max([since, *(gap.until for gap in history.blind if gap.since <= recovered_at)])
    return Recovery(
        fault=fault, seconds=max(0.0, recovered_at - since), outage_seconds=recovered_at - fault.at
    )


def _first_progress(fault: Fault, mark: str, samples: Sequence[Sample]) -> float | None:
    """When the mark was first seen to have changed since the component returned."""
    assert fault.returned_at is not None
    before: str | None = None
    for sample in samples:
        seen = sample.marks.get(mark)
        if sample.at <= fault.returned_at:
            before = seen
        elif seen not in (None, before):
            return sample.at
    return None


def _end_of_job(fault: Fault, samples: Sequence[Sample]) -> float | None:
    """A supervisor comes back to nothing: its job has to end, also one that nobody had seen open before."""
    seen_open = [sample.at for sample in samples if any(job.id == fault.job for job in sample.open_jobs)]
    last = max([fault.at, *seen_open])
    return next((sample.at for sample in samples if sample.at > last), None)
