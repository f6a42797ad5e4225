"""What torchtune printed while it ran, from a log of any size and in any state: read once, in bounded memory.

A log may hold several starts (a requeued batch job appends), other programs' output, and garbage. Each start is a
segment of its own. Bars are joined by carriage returns, so a line may be as long as the run.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from experiments.parsers import slurm
from experiments.parsers.fragments import fragments
from experiments.parsers.torchtune_bars import Bar, Clock, ReadBy, bar_in, telling

MAX_CONFIGURATION_BYTES = 64 * 1024
HEAD_BARS = 8  # a segment is known again by all that stands before its ninth step

_START = re.compile(rb"Running (\w{1,80}) with resolved config")
_LOGGED = re.compile(rb"\s*(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):")
_YAML = re.compile(rb"[ -]|\w{1,100}:(?: |$)")
_SAVED = re.compile(rb"(?:Checkpoint saved in|Saving checkpoint took) (\d{1,9}(?:\.\d{1,9})?) sec")
_MEMORY = re.compile(rb"GPU peak memory (alloc|reserved|active)\w{0,10}: (\d{1,6}(?:\.\d{1,9})?) GiB")
_CAPACITY = re.compile(
    rb"total capacity of (\d{1,6}(?:\.\d{1,9})?) GiB|(\d{1,6}(?:\.\d{1,9})?) GiB total capacity"
)
_GENERATED = re.compile(rb"Generating (\w{1,60}) split: (\d{1,9}) examples")
_METRICS_FILE = re.compile(rb"Writing logs to \S{0,2000}?(log_\d{1,20}\.txt)")
_MEMORY_LINES = 6  # that the block has after its heading, at most


@dataclass(frozen=True)
class Located:
    """A figure, and the line that it stands in, counted from 1."""

    value: float
    line: int


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One start of torchtune."""

    first_line: int
    head: str  # a hash of its beginning: the same of a copy, and of a file that has grown since
    recipe_class: str = ""  # as torchtune printed it when it started
    configuration: str = ""  # the same
    configuration_line: int | None = None
    steps_per_epoch: int | None = None  # the total of its bars
    epochs_seen: int = 0
    last_epoch: int = 0  # counted from 1
    steps_done: int = 0  # of all epochs, as torchtune counts them: those before a resumed start, too
    seconds_per_step: Located | None = None
    read_by: ReadBy = ""  # whether by the bars' clock, or by the last rate that they printed
    checkpoint_seconds: Located | None = None  # the mean of all
    after_init_gib: Mapping[str, Located] = field(
        default_factory=dict
    )  # by alloc, reserved, active; never a peak
    rows: int | None = None  # of the one file that was read for it
    metrics_file: str = ""  # its name
    out_of_memory_line: int | None = None
    device_memory_gib: float | None = None  # as an error for want of memory tells it
    is_time_limited: bool = False

    @property
    def is_cut_short(self) -> bool:
        """Whether its last epoch did not come to its end."""
        whole = self.steps_per_epoch is not None and self.steps_done == self.last_epoch * self.steps_per_epoch
        return not whole or self.out_of_memory_line is not None


def segments(chunks: Iterable[bytes]) -> Iterator[Segment]:
    """The starts in a log, in order; what has no bar, no memory and no error for want of memory is none."""
    reading = _Reading(1)
    for line, text in telling(fragments(chunks)):
        bar = bar_in(text, line) if b"|Loss: " in text else None
        if b"with resolved config" in text and _START.search(text) or bar and reading.restarts_with(bar):
            yield from reading.finished()
            reading = _Reading(line)
        reading.take(text, line, bar)
    yield from reading.finished()


class _Reading:
    """A segment while it is read."""

    def __init__(self, first_line: int) -> None:
        self._first_line = first_line
        self._head = hashlib.sha256()
        self._head_bars = 0
        self._recipe_class = ""
        self._configuration = bytearray()
        self._configuration_line: int | None = None
        self._is_configuring = False
        self._last: Bar | None = None
        self._epochs_seen = 0
        self._clock = Clock()
        self._saves, self._save_seconds, self._save_line = 0, 0.0, 0
        self._memory: dict[str, Located] = {}
        self._memory_until = 0  # the last line that the block after init may have
        self._generated: dict[bytes, int] = {}
        self._metrics_file = ""
        self._out_of_memory_line: int | None = None
        self._device_memory_gib: float | None = None
        self._is_time_limited = False

    def restarts_with(self, bar: Bar) -> bool:
        """Whether a bar says that training began again. A bar that is closed is drawn again, but full."""
        last = self._last
        return last is not None and bar.done < bar.total and (bar.epoch, bar.done) < (last.epoch, last.done)

    def take(self, text: bytes, line: int, bar: Bar | None) -> None:
        self._take_head(text)
        if bar is not None:
            self._take_bar(bar)
            if b"INFO" not in text:
                return
        if self._is_configuring:
            self._take_configuration(text)
        for literal, take in _MARKERS:
            if literal in text:
                take(self, text, line)

    def finished(self) -> Iterator[Segment]:
        last = self._last
        if last is None and not self._memory and self._out_of_memory_line is None:
            return
        speed = self._clock.speed()
        yield Segment(
            first_line=self._first_line,
            head=self._head.hexdigest(),
            recipe_class=self._recipe_class,
            configuration=self._configuration.decode("utf-8", "replace"),
            configuration_line=self._configuration_line,
            steps_per_epoch=last.total if last else None,
            epochs_seen=self._epochs_seen,
            last_epoch=last.epoch if last else 0,
            steps_done=(last.epoch - 1) * last.total + last.done if last else 0,
            seconds_per_step=Located(speed.seconds_per_step, speed.line) if speed else None,
            read_by=speed.read_by if speed else "",
            checkpoint_seconds=Located(self._save_seconds / self._saves, self._save_line)
            if self._saves
            else None,
            after_init_gib=self._memory,
            rows=next(iter(self._generated.values())) if len(self._generated) == 1 else None,
            metrics_file=self._metrics_file,
            out_of_memory_line=self._out_of_memory_line,
            device_memory_gib=self._device_memory_gib,
            is_time_limited=self._is_time_limited,
        )

    def _take_head(self, text: bytes) -> None:
        if self._head_bars < HEAD_BARS:
            self._head.update(text + b"\n")

    def _take_bar(self, bar: Bar) -> None:
        last = self._last
        if last is not None and (bar.epoch, bar.done) <= (last.epoch, last.done):
            return
        self._epochs_seen += last is None or bar.epoch != last.epoch
        self._head_bars += 1
        self._last = bar
        self._clock.take(bar)

    def _take_start(self, text: bytes, line: int) -> None:
        if started := _START.search(text):
            self._recipe_class = started[1].decode()
            self._is_configuring, self._configuration_line = True, line + 1

    def _take_configuration(self, text: bytes) -> None:
        """It is printed after the line that a segment begins with, up to what is no line of a configuration."""
        too_long = len(self._configuration) + len(text) > MAX_CONFIGURATION_BYTES
        if too_long or _LOGGED.match(text) or not _YAML.match(text):
            self._is_configuring = False
            return
        self._configuration += text + b"\n"

    def _take_memory_heading(self, text: bytes, line: int) -> None:
        self._memory_until = line + _MEMORY_LINES

    def _take_memory(self, text: bytes, line: int) -> None:
        if line <= self._memory_until and (memory := _MEMORY.search(text)):
            self._memory.setdefault(memory[1].decode(), Located(float(memory[2]), line))

    def _take_pause(self, text: bytes, line: int) -> None:
        self._clock.pause()
        if saved := _SAVED.search(text):
            self._saves += 1
            self._save_seconds += float(saved[1])
            self._save_line = self._save_line or line

    def _take_out_of_memory(self, text: bytes, line: int) -> None:
        self._out_of_memory_line = self._out_of_memory_line or line
        if capacity := _CAPACITY.search(text):
            self._device_memory_gib = float(capacity[1] or capacity[2])

    def _take_generated(self, text: bytes, line: int) -> None:
        """How many rows a file had. The count goes up; where it begins anew, a second file is read."""
        generated = _GENERATED.search(text)
        if generated is None or self._last is not None or len(self._generated) > 1:
            return
        name, count = generated[1], int(generated[2])
        anew = count < self._generated.get(name, 0)
        self._generated[name + b" again" if anew else name] = count

    def _take_metrics_file(self, text: bytes, line: int) -> None:
        if written := _METRICS_FILE.search(text):
            self._metrics_file = written[1].decode()

    def _take_time_limit(self, text: bytes, line: int) -> None:
        self._is_time_limited = self._is_time_limited or slurm.ended_by_time_limit(text)


_MARKERS: tuple[tuple[bytes, Callable[[_Reading, bytes, int], None]], ...] = (
    (b"with resolved config", _Reading._take_start),
    (b"Memory stats after model init:", _Reading._take_memory_heading),
    (b"GPU peak memory", _Reading._take_memory),
    (b"Starting checkpoint save", _Reading._take_pause),
    (b"Checkpoint saved in", _Reading._take_pause),
    (b"Saving checkpoint", _Reading._take_pause),
    (b"CUDA out of memory", _Reading._take_out_of_memory),
    (b"OutOfMemoryError", _Reading._take_out_of_memory),
    (b"DefaultCPUAllocator: can't allocate memory", _Reading._take_out_of_memory),
    (b"Generating ", _Reading._take_generated),
    (b"Writing logs to", _Reading._take_metrics_file),
    (slurm.TIME_LIMIT, _Reading._take_time_limit),
)
