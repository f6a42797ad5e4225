"""Lines for a person at a terminal, and the one error whose sentence is all that is shown."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class LabError(Exception):
    """Something the person can mend: a sentence that says what to do, and the exit code."""

    def __init__(self, sentence: str, *, code: int = 1) -> None:
        super().__init__(sentence)
        self.code = code


def say(text: str = "") -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Progress:
    """Prints one line a step with the time it took, and keeps the times for the sum at the end."""

    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    installing_seconds: float = 0.0  # of these, pip's

    @contextmanager
    def step(self, name: str, *, installing: bool = False) -> Iterator[None]:
        started = time.monotonic()
        self._show(f"  {name} ...", end="")
        try:
            yield
        except BaseException:
            self._show(f"\r  {name} failed after {time.monotonic() - started:.1f} s", end="\n")
            raise
        took = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        if installing:
            self.installing_seconds += took
        self._show(f"\r  {name:<50} {took:6.1f} s", end="\n")

    def live(self, text: str) -> None:
        """What is going on inside a step; only at a terminal, where it can be overwritten."""
        if sys.stdout.isatty():
            self._show(f"\r\033[K  {text[:100]}", end="")

    def _show(self, text: str, *, end: str) -> None:
        if self.quiet:
            return
        if not sys.stdout.isatty():
            if not end:
                return  # in a file, only the finished line
            text = text.lstrip("\r")
        else:
            text = text.replace("\r", "\r\033[K", 1)
        print(text, end=end, flush=True)
