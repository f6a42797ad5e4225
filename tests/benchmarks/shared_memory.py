"""What a tree of processes takes of the machine's memory, each shared page counted once (PSS)."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

SAMPLE_SECONDS = 2.0


def pss_mib(pids: Iterable[int]) -> float:
    """Of those that are still there."""
    return sum(_pss_kib(pid) for pid in pids) / 1024


class PeakMemory(threading.Thread):
    """The most that was seen at once, for as long as it is entered."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        super().__init__(name="peak memory", daemon=True)
        self._pids = pids
        self._done = threading.Event()
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        self.sample()
        while not self._done.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        self.mib = max(self.mib, pss_mib(self._pids()))


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
