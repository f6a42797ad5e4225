"""What a campaign came to, for people and for docs/benchmarks.md."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tests.faults.executions import executions
from tests.faults.findings import Finding
from tests.faults.history import History
from tests.faults.recovery import percentile, recoveries

SHOWN = 40


def report(history: History, findings: Sequence[Finding]) -> str:
    return "\n".join([*_what_was_done(history), "", *_recoveries(history), "", *_verdict(findings)])


def _what_was_done(history: History) -> Iterator[str]:
    states = Counter(f"{run.kind} {run.state}" for run in history.runs)
    blind = sum(gap.until - gap.since for gap in history.blind)
    span = history.samples[-1].at - history.samples[0].at if history.samples else 0.0
    yield f"{len(history.faults)} faults in {span:.0f} s, {len(history.samples)} looks, blind for {blind:.0f} s"
    yield f"{len(history.runs)} runs: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    yield (
        f"{len(history.jobs)} jobs, {len(executions(history.signs))} executions in the ledger; endings: "
        + (
            ", ".join(
                f"{n} {ending}" for ending, n in Counter(job.ending for job in history.jobs).most_common()
            )
        )
    )


def _recoveries(history: History) -> Iterator[str]:
    by_kind = defaultdict(list)
    for recovery in recoveries(history):
        by_kind[recovery.fault.kind].append(recovery)
    counted = Counter(fault.kind for fault in history.faults)
    yield f"{'fault':<26}{'times':>6}{'p50 s':>8}{'p99 s':>8}{'max s':>8}{'outage p50 s':>14}"
    for kind, times in sorted(counted.items()):
        found = by_kind[kind]
        seconds = [recovery.seconds for recovery in found]
        outages = [recovery.outage_seconds for recovery in found]
        yield f"{kind:<26}{times:>6}" + (
            _figures(seconds, outages) if found else f"{'-':>8}" * 3 + f"{'-':>14}"
        )
    every = [recovery for found in by_kind.values() for recovery in found]
    if every:
        figures = _figures([r.seconds for r in every], [r.outage_seconds for r in every])
        yield f"{'all that have a recovery':<26}{len(every):>6}{figures}"


def _figures(seconds: Sequence[float], outages: Sequence[float]) -> str:
    told = [percentile(seconds, 50), percentile(seconds, 99), max(seconds)]
    return "".join(f"{value:>8.1f}" for value in told) + f"{percentile(outages, 50):>14.1f}"


def _verdict(findings: Sequence[Finding]) -> Iterator[str]:
    yield f"{len(findings)} findings" + "".join(
        f", {n} {rule}" for rule, n in Counter(finding.rule for finding in findings).items()
    )
    yield from (f"  {finding}" for finding in findings[:SHOWN])
