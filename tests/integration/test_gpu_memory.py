"""The GPU benchmark's script by a real run on CPU, in its smallest version."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import REPOSITORY

CALL_AGAIN = 75


@pytest.mark.engine
def test_the_memory_benchmark_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    """A call without time runs nothing; one with a second runs one; the next keeps it."""
    assert _call(tmp_path, seconds=0).returncode == CALL_AGAIN
    assert not list((tmp_path / "out").iterdir())
    first = _call(tmp_path, seconds=1)
    assert first.returncode == CALL_AGAIN, first.stderr[-2000:]
    (record,) = (tmp_path / "out").glob("*.json")
    assert json.loads(record.read_text())["peaks_mib"]["reserved"] > 100
    assert "Checkpoint saved" in record.with_suffix(".log").read_text()
    assert "1 runs are in" in _call(tmp_path, seconds=0).stdout


def _call(folder: Path, *, seconds: int) -> subprocess.CompletedProcess[str]:
    options = f"--device cpu --shapes tiny --capacity-mib 1000 --seconds {seconds}".split()
    places = ["--out", str(folder / "out"), "--work", str(folder / "work")]
    command = [sys.executable, "-m", "tests.benchmarks.gpu_memory", *options, *places]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
