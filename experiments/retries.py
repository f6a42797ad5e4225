"""Whether a run whose launch did not succeed is launched again, and what is different then.

Which rule a reason has is data in states.REASONS; the rules are here. Each says in words what comes next.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from experiments.states import ALONE_AFTER, MAX_LAUNCHES, REASONS, Again, FinishReason


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What is known of a launch that has ended, besides its outcome."""

    node_name: str
    has_other_node: bool = False  # that could ever hold the run
    shared_engine: bool = False  # its job carried other runs, too
    was_active: bool = True  # when that engine broke; False: it waited for its turn


@dataclass(frozen=True, kw_only=True)
class Launched:
    """The run, as its launch leaves it."""

    launches_count: int
    again_before: int = 0  # how often the same reason had it launched again
    device_memory_mib: int | None = None
    engine_crashes_count: int = 0
    has_epochs: bool = False  # several, so that what was lost may be gone on with


@dataclass(frozen=True, kw_only=True)
class Retry:
    told: str
    changes: Mapping[str, object] = field(default_factory=dict)  # columns of the run


def retry(*, reason: FinishReason, run: Launched, around: Circumstances) -> Retry | None:
    """None where the run ends."""
    policy = REASONS[reason]
    rule = _RULES.get(policy.again)
    if rule is None or (policy.counts_as_launch and run.launches_count >= MAX_LAUNCHES):
        return None
    return rule(run, around)


Rule = Callable[[Launched, Circumstances], Retry | None]


def _after_a_loss(run: Launched, around: Circumstances) -> Retry:
    told = (
        f"It is queued again, for launch {run.launches_count + 1} of at most {MAX_LAUNCHES}, and passes over "
        f"node {around.node_name} while another could hold it.{_goes_on(run)}"
    )
    return Retry(told=told, changes={"avoided_node": around.node_name})


def _uncounted(run: Launched, around: Circumstances) -> Retry:
    return Retry(
        told=f"It is queued again; this launch does not count.{_goes_on(run)}",
        changes={"avoided_node": "", "launches_count": run.launches_count - 1},
    )


def _goes_on(run: Launched) -> str:
    return " It goes on after its last whole epoch, if that can be taken over." if run.has_epochs else ""


def _elsewhere(run: Launched, around: Circumstances) -> Retry | None:
    if run.again_before or not around.has_other_node:
        return None
    told = f"It is queued again, once, for another node than {around.node_name}."
    return Retry(told=told, changes={"avoided_node": around.node_name})


def _with_whole_devices(run: Launched, around: Circumstances) -> Retry | None:
    if run.device_memory_mib is None:
        return None
    told = f"It held {run.device_memory_mib:,} MiB of a device, and is queued again for whole devices, once."
    return Retry(told=told, changes={"device_memory_mib": None})


def _apart(run: Launched, around: Circumstances) -> Retry | None:
    """Out of an engine that broke. Who only waited in it is innocent, and whoever is alone has nobody to blame."""
    if not around.shared_engine:
        return None
    changes = {"launches_count": run.launches_count - 1}
    if not around.was_active:
        told = "It waited for its turn in the engine, and is queued again as it was."
        return Retry(told=told, changes=changes)
    crashes = run.engine_crashes_count + 1
    changes["engine_crashes_count"] = crashes
    if crashes < ALONE_AFTER:
        told = (
            "It is queued again. Should an engine that it shares break down on it once more, it goes alone."
        )
    else:
        told = f"{crashes} engines broke down on it: it is queued again, and has one for itself."
    return Retry(told=told, changes=changes)


_RULES: Mapping[Again, Rule] = {
    Again.AFTER_A_LOSS: _after_a_loss,
    Again.UNCOUNTED: _uncounted,
    Again.ELSEWHERE: _elsewhere,
    Again.WITH_WHOLE_DEVICES: _with_whole_devices,
    Again.APART: _apart,
}
