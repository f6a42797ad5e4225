"""The words of a run's life: states, the transitions between them, and the reasons for an ending.

    PLANNED -> QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED
    PLANNED, QUEUED -> CANCELLED, and SUCCEEDED | FAILED when it ran elsewhere and its results are taken back.
    RUNNING -> QUEUED only when the reason's policy says so.

Few states, many reasons: every reason carries its sentence and when the run is launched again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MAX_LAUNCHES = 3
ALONE_AFTER = 2  # engines that broke down on a run, before it has one for itself
AGEING = timedelta(hours=1)  # of waiting that a point of priority is worth


def turn_of(*, ready_at: datetime, priority: int) -> datetime:
    """What sorts the queue, the earliest first. It never changes, so that whoever waits is passed by ever fewer."""
    return ready_at - priority * AGEING


class RunState(StrEnum):
    PLANNED = "PLANNED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ALLOWED: dict[RunState, frozenset[RunState]] = {
    RunState.PLANNED: frozenset({RunState.QUEUED, RunState.CANCELLED, RunState.SUCCEEDED, RunState.FAILED}),
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.SUCCEEDED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.QUEUED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

TERMINAL = frozenset(state for state, following in ALLOWED.items() if not following)


class RunKind(StrEnum):
    FINETUNE = "finetune"
    EVALUATE = "evaluate"
    PROBE = "probe"
    COMMAND = "command"
    SIMULATED = "simulated"


class CellType(StrEnum):
    FINETUNED = "finetuned"
    CONTROL = "control"
    ADAPTER = "adapter"  # an adapter that is there already, evaluated only
    PROBE = "probe"
    COMMAND = "command"
    SIMULATED = "simulated"


class FinishReason(StrEnum):
    TIMED_OUT = "TIMED_OUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    KILLED = "KILLED"
    EXIT_CODE = "EXIT_CODE"
    TRAINED_NOTHING = "TRAINED_NOTHING"
    RESULT_INCOMPLETE = "RESULT_INCOMPLETE"
    CONFIG_INVALID = "CONFIG_INVALID"
    MODEL_MISSING = "MODEL_MISSING"
    DATA_INVALID = "DATA_INVALID"
    ADAPTER_INVALID = "ADAPTER_INVALID"
    ENGINE_FAILED = "ENGINE_FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    SUPERVISOR_LOST = "SUPERVISOR_LOST"
    NODE_LOST = "NODE_LOST"
    DEVICE_TAKEN = "DEVICE_TAKEN"
    DEVICE_FAILED = "DEVICE_FAILED"
    STOPPED = "STOPPED"
    CRASH_LOOP = "CRASH_LOOP"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    CANCELLED_BY_USER = "CANCELLED_BY_USER"


class Again(StrEnum):
    """When a run that ended for a reason is launched again; the rules are in experiments.retries."""

    NEVER = "NEVER"
    AFTER_A_LOSS = (
        "AFTER_A_LOSS"  # on another node where there is one, until it was launched MAX_LAUNCHES times
    )
    UNCOUNTED = "UNCOUNTED"  # as often as it happens
    ELSEWHERE = "ELSEWHERE"  # once, if another node could ever hold it
    WITH_WHOLE_DEVICES = "WITH_WHOLE_DEVICES"  # once, if it held a share of a device
    APART = "APART"  # if it shared its engine; alone after ALONE_AFTER of them


@dataclass(frozen=True)
class ReasonPolicy:
    sentence: str
    again: Again = Again.NEVER

    @property
    def counts_as_launch(self) -> bool:
        """Towards MAX_LAUNCHES."""
        return self.again not in (Again.UNCOUNTED, Again.APART)


REASONS: dict[FinishReason, ReasonPolicy] = {
    FinishReason.TIMED_OUT: ReasonPolicy(
        "It ran past its time limit and was ended; raise limits.timeout_seconds."
    ),
    FinishReason.OUT_OF_MEMORY: ReasonPolicy(
        "It ran out of memory; lower batch_size or max_seq_len.", Again.WITH_WHOLE_DEVICES
    ),
    FinishReason.KILLED: ReasonPolicy(
        "It was killed by a signal that labmgr did not send; see the machine's log.", Again.APART
    ),
    FinishReason.EXIT_CODE: ReasonPolicy(
        "Its program ended with an error; the last lines of its log say which."
    ),
    FinishReason.TRAINED_NOTHING: ReasonPolicy(
        "It ended without a single optimizer step; batch_size times gradient_accumulation_steps must not exceed the rows."
    ),
    FinishReason.RESULT_INCOMPLETE: ReasonPolicy(
        "It ended without all the results that were expected of it."
    ),
    FinishReason.CONFIG_INVALID: ReasonPolicy(
        "Its configuration was refused; correct the experiment document."
    ),
    FinishReason.MODEL_MISSING: ReasonPolicy("A file of the base model is missing; verify the model again."),
    FinishReason.DATA_INVALID: ReasonPolicy("Its dataset could not be read; verify the dataset again."),
    FinishReason.ADAPTER_INVALID: ReasonPolicy(
        "The adapter could not be loaded; look at the fine-tune that made it."
    ),
    FinishReason.ENGINE_FAILED: ReasonPolicy(
        "The inference engine did not start or broke down; see its log.", Again.APART
    ),
    FinishReason.LAUNCH_FAILED: ReasonPolicy(
        "Its program could not be started; check the ML environment and the command.", Again.ELSEWHERE
    ),
    FinishReason.SUPERVISOR_LOST: ReasonPolicy(
        "Its supervisor disappeared; what was left of it was ended.", Again.AFTER_A_LOSS
    ),
    FinishReason.NODE_LOST: ReasonPolicy("Its node was lost.", Again.AFTER_A_LOSS),
    FinishReason.DEVICE_TAKEN: ReasonPolicy(
        "Somebody else's program took its device before it was launched.", Again.UNCOUNTED
    ),
    FinishReason.DEVICE_FAILED: ReasonPolicy(
        "Its device failed before it was launched, and was drained.", Again.UNCOUNTED
    ),
    FinishReason.STOPPED: ReasonPolicy("labmgr was stopped while it ran.", Again.UNCOUNTED),
    FinishReason.CRASH_LOOP: ReasonPolicy(
        f"It was lost {MAX_LAUNCHES} times; look at the node before queueing it again."
    ),
    FinishReason.DEPENDENCY_FAILED: ReasonPolicy("The run that it builds on did not succeed."),
    FinishReason.CANCELLED_BY_USER: ReasonPolicy("A person cancelled it."),
}


class JobState(StrEnum):
    """PLACED -> CLAIMED -> RUNNING -> ENDING -> ENDED, with no way back."""

    PLACED = "PLACED"
    CLAIMED = "CLAIMED"
    RUNNING = "RUNNING"
    ENDING = "ENDING"
    ENDED = "ENDED"


OPEN_JOB_STATES = frozenset(JobState) - {JobState.ENDED}
