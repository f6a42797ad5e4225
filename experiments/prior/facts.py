"""The facts in a log or metrics file, before anybody knows under which conditions they hold."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.conditions import Metric
from experiments.parsers import torchtune, torchtune_log
from experiments.parsers.fragments import whole_lines
from experiments.parsers.torchtune_log import HEAD_BARS, Located, Segment
from experiments.prior.files import Found, chunks
from experiments.telling import OUT_OF_MEMORY

_MIB_IN_A_GIB = 1024


@dataclass(frozen=True, kw_only=True)
class RawFact:
    metric: str
    value: float
    unit: str
    line: int
    is_bound: bool = False


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of torchtune, as far as one file tells of it."""

    identity: str  # what it is known by again, wherever its file lies, and when that has grown
    facts: tuple[RawFact, ...]
    segment: Segment | None = None  # None for a metrics file


def read(found: Found) -> Iterator[Start]:
    """Raises OSError."""
    if found.is_metrics:
        yield from _of_metrics(found)
        return
    for segment in torchtune_log.segments(chunks(found.path)):
        identity = f"{segment.head} {segment.first_line}"
        yield Start(identity=identity, facts=tuple(_of_segment(segment)), segment=segment)


def _of_segment(segment: Segment) -> Iterator[RawFact]:
    if segment.seconds_per_step:
        yield _fact(Metric.SECONDS_PER_STEP, segment.seconds_per_step, "s")
    if segment.checkpoint_seconds:
        yield _fact(Metric.CHECKPOINT_SECONDS, segment.checkpoint_seconds, "s")
    if allocated := segment.after_init_gib.get("alloc"):
        mib = Located(allocated.value * _MIB_IN_A_GIB, allocated.line)
        yield _fact(Metric.MEMORY_AFTER_INIT_MIB, mib, "MiB")
    if segment.out_of_memory_line:
        capacity = segment.device_memory_gib
        mib = Located(capacity * _MIB_IN_A_GIB if capacity else OUT_OF_MEMORY, segment.out_of_memory_line)
        yield _fact(Metric.PEAK_DEVICE_MEMORY_MIB, mib, "MiB", is_bound=True)


def _fact(metric: Metric, figure: Located, unit: str, *, is_bound: bool = False) -> RawFact:
    return RawFact(metric=metric, value=figure.value, unit=unit, line=figure.line, is_bound=is_bound)


def _of_metrics(found: Found) -> Iterator[Start]:
    """The largest peak that torchtune logged of its steps: on a GPU only."""
    head, read_steps = hashlib.sha256(), 0
    highest: Located | None = None
    for number, text in whole_lines(chunks(found.path)):
        for step in torchtune.parse_metrics(text.decode("utf-8", "replace") + "\n"):
            if read_steps < HEAD_BARS:
                head.update(text)
            read_steps += 1
            gib = step.peak_memory_reserved_gib
            if gib and (highest is None or gib > highest.value):
                highest = Located(gib, number)
    if highest is not None:
        peak = Located(highest.value * _MIB_IN_A_GIB, highest.line)
        yield Start(identity=head.hexdigest(), facts=(_fact(Metric.PEAK_DEVICE_MEMORY_MIB, peak, "MiB"),))
