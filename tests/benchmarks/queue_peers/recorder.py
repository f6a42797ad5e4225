"""The program that every run executes, which costs next to nothing and notes when it ran."""

import shutil
import subprocess
import time
from pathlib import Path

from tests.benchmarks.gaps import Ran

SOURCE = Path(__file__).with_name("recorder.c")


def build(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("The benchmark's runs are a C program, and there is no cc here: apt-get install gcc")
    program = folder / "recorder"
    subprocess.run([compiler, "-O2", "-o", program, SOURCE], check=True)
    return program


def now() -> float:
    """On the clock by which runs are noted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read(record: Path) -> list[Ran]:
    """What has ended so far."""
    if not record.exists():
        return []
    lines = (line.split() for line in record.read_text().splitlines())
    return [
        Ran(name=name, slot=slot, started=int(started) / 1e9, ended=int(ended) / 1e9)
        for name, slot, started, ended in lines
    ]
