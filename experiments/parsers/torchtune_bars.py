"""torchtune's progress bars, and the steady speed that they show."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

WARM_UP_STEPS = 3  # of each epoch, left out
FIRST_BARS = 64
MOST_DOUBT = 0.05  # of a speed by the clock, which shows whole seconds

_BAR = re.compile(
    rb"(\d{1,6})\|\d{1,9}\|Loss: [^:|]{1,40}:\s{0,4}\d{1,3}%\|[^|]{0,600}\|\s{0,9}(\d{1,9})/(\d{1,9}) "
    rb"\[(\d{1,4}(?::\d\d){1,2})<[^,\]]{1,20},\s{0,9}(\d{1,9}(?:\.\d{1,6})?|\?)(it/s|s/it)"
)

ReadBy = Literal["clock", "rate", ""]


class Bar(NamedTuple):
    """What is read of every bar; a log may have ten million, so what few are asked for is worked out when it is."""

    epoch: int  # counted from 1
    done: int  # steps of this epoch
    total: int
    clock: bytes
    rate: bytes
    unit: bytes
    line: int

    @property
    def elapsed_seconds(self) -> int:
        total = 0
        for part in self.clock.split(b":"):
            total = 60 * total + int(part)
        return total

    @property
    def seconds_per_step(self) -> float | None:
        """As printed: a smoothed rate."""
        if self.rate == b"?" or not (value := float(self.rate)):
            return None
        return value if self.unit == b"s/it" else 1 / value


class Speed(NamedTuple):
    seconds_per_step: float
    line: int  # of the first bar that it rests on
    read_by: ReadBy  # the bars' elapsed seconds; or the last rate that was printed, where they are too few


def bar_in(text: bytes, line: int) -> Bar | None:
    match = _BAR.search(text)
    if match is None:
        return None
    epoch, done, total, clock, rate, unit = match.groups()
    return Bar(int(epoch), int(done), int(total), clock, rate, unit, line)


def telling(fragments: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """All, but of bars in a row that show the same second only the first and the last; those between tell no more.

    A log may have ten million bars, and few of them are worth reading. The first in a row are all passed on: by
    them a log is known again when it has grown.
    """
    second, count, held = b"", 0, None
    for line, text in fragments:
        now = _second(text)
        count = count + 1 if now else 0
        if now and now == second and count > FIRST_BARS:
            held = line, text
            continue
        if held:
            yield held
        second, held = now, None
        yield line, text
    if held:
        yield held


def _second(text: bytes) -> bytes:
    """Its epoch and its clock, with some of what stands before; empty for what is not a bar alone."""
    if b"|Loss: " not in text or b"INFO" in text:
        return b""
    end = text.find(b"<")
    return text[: text.find(b"|") + 1] + text[end - 8 : end]


class Clock:
    """The steady speed, from where the bars' elapsed second changes: there the clock is exact to a step.

    Give it every bar that shows a step more than the one before. A bar that is drawn once more when it is closed is
    none of them: its clock has run on while a checkpoint was saved, and its rate is the mean with that time in it.
    """

    def __init__(self) -> None:
        self._before: Bar | None = None
        self._from: Bar | None = None
        self._to: Bar | None = None
        self._spans = self._steps = self._seconds = 0
        self._first_line = 0
        self._last: Bar | None = None

    def take(self, bar: Bar) -> None:
        if self._before is not None and bar.epoch != self._before.epoch:
            self.pause()
        before, self._before = self._before, bar
        if bar.done <= WARM_UP_STEPS:
            return
        self._last = bar
        self._first_line = self._first_line or bar.line
        if before and bar.clock != before.clock and bar.done == before.done + 1:
            self._from, self._to = self._from or bar, bar

    def pause(self) -> None:
        """What comes next is not training: the next step's time is not only its own."""
        if self._from is not None and self._to is not None:
            seconds = self._to.elapsed_seconds - self._from.elapsed_seconds
            if seconds > 0:
                self._spans += 1
                self._steps += self._to.done - self._from.done
                self._seconds += seconds
        self._before = self._from = self._to = None

    def speed(self) -> Speed | None:
        self.pause()
        if self._steps and self._doubt(self._seconds / self._steps) <= MOST_DOUBT:
            return Speed(self._seconds / self._steps, self._first_line, "clock")
        rate = self._last.seconds_per_step if self._last else None
        return Speed(rate, self._first_line, "rate") if rate else None

    def _doubt(self, pace: float) -> float:
        """At either end of a span the clock is off by a step, or by a second where steps are longer."""
        return self._spans * min(pace, 1.0) / self._seconds
