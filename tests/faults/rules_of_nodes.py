"""What was given away is counted right and held by one, what has ended left nothing, and a lost node loses what it may."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.faults.executions import Execution, executions
from tests.faults.findings import Finding, Rule
from tests.faults.history import DeviceSeen, History, JobRow, Sample

TAKEN = "NODE_LOST"  # the ending of a job that the reaper took (scheduler.losing)
NOTICED_SECONDS = 1.5  # by which the observer may see a renewal, or an end, too late
TAKING_SECONDS = 8.0  # within which a lost node's runs are taken, once it is lost


def over_given(history: History) -> Iterator[Finding]:
    for sample in history.samples:
        for device in sample.devices:
            if told := _miscounted(device):
                yield Finding(Rule.OVER_GIVEN, f"at {sample.at:.1f} device {device.id} {told}")
        for node in sample.nodes:
            if node.miscounted:
                yield Finding(Rule.OVER_GIVEN, f"at {sample.at:.1f} node {node.name}: {node.miscounted}")
        yield from (Finding(Rule.OVER_GIVEN, f"at {sample.at:.1f} {told}") for told in sample.windows)
    for a, b, device_id in _used_at_once(history):
        yield Finding(Rule.OVER_GIVEN, f"device {device_id} was used by two at once: {a}; {b}")


def leaked(history: History) -> Iterator[Finding]:
    for sample in history.samples:
        for job in sample.ended_and_holding:
            yield Finding(Rule.LEAKED, f"at {sample.at:.1f} job {job} had ended and held devices")
    if history.samples:
        yield from _leaked_at_the_end(history.samples[-1])


def orphans(history: History) -> Iterator[Finding]:
    for sample in history.samples:
        for job, pids in sample.ended_and_alive.items():
            yield Finding(Rule.ORPHAN, f"at {sample.at:.1f} processes {list(pids)} outlived job {job}")
    for process in history.left:
        yield Finding(Rule.ORPHAN, f"process {process.pid} was left: {process.command}")


def node_loss(history: History) -> Iterator[Finding]:
    taken = {job.id: job for job in history.jobs if job.ending == TAKEN}
    for job in taken.values():
        if not job.requeues:
            yield Finding(Rule.NODE_LOSS, f"job {job.id} was taken, and its experiment waits for its node")
    yield from _taken_too_early(history, taken)
    yield from _given_to_the_lost(history)
    yield from _not_taken(history)


def _miscounted(device: DeviceSeen) -> str:
    if device.allocated_mib != device.leased_mib:
        return f"counts {device.allocated_mib} MiB as given, and its leases hold {device.leased_mib}"
    if device.leased_mib > device.memory_mib:
        return f"has {device.memory_mib} MiB, of which {device.leased_mib} are held"
    return ""


def _used_at_once(history: History) -> Iterator[tuple[Execution, Execution, int]]:
    devices_of = {job.id: job.devices for job in history.jobs}
    on_device: dict[int, list[Execution]] = defaultdict(list)
    for execution in executions(history.signs):
        for device in devices_of.get(execution.job, ()):
            on_device[device].append(execution)
    for device, found in on_device.items():
        for a, b in pairwise(found):
            if a.job != b.job and a.overlaps(b):
                yield a, b, device


def _leaked_at_the_end(last: Sample) -> Iterator[Finding]:
    if last.open_jobs:
        return  # which is told by the runs
    for device in last.devices:
        if device.leased_mib or device.state != "AVAILABLE":
            told = f"at the end device {device.id} is {device.state} and holds {device.leased_mib} MiB"
            yield Finding(Rule.LEAKED, told)


def _taken_too_early(history: History, taken: dict[int, JobRow]) -> Iterator[Finding]:
    renewed: dict[str, tuple[str, float]] = {}
    for before, sample in pairwise(history.samples):
        for node in before.nodes:
            if renewed.get(node.name, ("", 0.0))[0] != node.renewals:
                renewed[node.name] = (node.renewals, before.at)
        gone = {job.id for job in before.open_jobs} - {job.id for job in sample.open_jobs}
        for job_id in gone & set(taken):
            node_name = taken[job_id].node
            passed = sample.at - renewed[node_name][1]
            if passed < history.node_lost_after - NOTICED_SECONDS - (sample.at - before.at):
                told = f"job {job_id} was taken {passed:.1f} s after {node_name} had renewed its session"
                yield Finding(Rule.NODE_LOSS, told)


def _lost(sample: Sample) -> set[str]:
    return {node.name for node in sample.nodes if node.is_lost}


def _given_to_the_lost(history: History) -> Iterator[Finding]:
    for before, sample in pairwise(history.samples):
        known = {job.id for job in before.open_jobs}
        lost = _lost(before) & _lost(sample)
        for job in sample.open_jobs:
            if job.node in lost and job.id not in known:
                yield Finding(Rule.NODE_LOSS, f"job {job.id} was given to {job.node}, which is lost")


def _not_taken(history: History) -> Iterator[Finding]:
    lost_since: dict[str, float] = {}
    told: set[int] = set()
    for sample in history.samples:
        lost_since = {name: lost_since.get(name, sample.at) for name in _lost(sample)}
        for job in sample.open_jobs:
            since = lost_since.get(job.node, sample.at)
            if job.requeues and sample.at - since > TAKING_SECONDS and job.id not in told:
                told.add(job.id)
                yield Finding(Rule.NODE_LOSS, f"job {job.id} was not taken from {job.node}, which is lost")
