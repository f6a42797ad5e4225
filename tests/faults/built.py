"""What the campaign compiles: the program of its real runs, and a wall clock that can be set."""

import shutil
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
NANOSECONDS = 1_000_000_000


def program(folder: Path) -> Path:
    return _compiled(folder / "working", HERE / "working.c")


def clock_library(folder: Path) -> Path:
    return _compiled(folder / "clock.so", HERE / "clock.c", "-shared", "-fPIC", "-ldl")


class WallClock:
    """That of every process which was started with its environment."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock.offset"
        if not self._file.exists():
            self._file.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(clock_library(folder)), "FAULTS_CLOCK": str(self._file)}

    def set(self, *, ahead_seconds: float) -> None:
        """In place, since the file is mapped."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", int(ahead_seconds * NANOSECONDS)))


def _compiled(target: Path, source: Path, *flags: str) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    assert compiler, "No C compiler: apt-get install gcc libc6-dev, as root."
    if not target.exists():
        command = [compiler, "-O1", "-o", str(target), str(source), *flags]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return target
