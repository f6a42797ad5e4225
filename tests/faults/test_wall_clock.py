"""The wall clock of a campaign can be set in processes that run, and no other clock is."""

import subprocess
import sys
from pathlib import Path

from tests.faults.built import WallClock

TELL = """
import sqlite3, sys, time
for _ in sys.stdin:
    asked = "SELECT strftime('%s', 'now')"
    print(time.time(), time.monotonic(), sqlite3.connect(":memory:").execute(asked).fetchone()[0], flush=True)
"""


def test_a_running_process_sees_the_wall_clock_set_and_no_other(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    command = [sys.executable, "-c", TELL]
    process = subprocess.Popen(
        command, env=clock.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def told() -> list[float]:
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        return [float(part) for part in process.stdout.readline().split()]

    before = told()
    clock.set(ahead_seconds=-3600.5)
    back = told()
    clock.set(ahead_seconds=86400)
    ahead = told()
    process.communicate()
    assert [round(b - a, -1) for a, b in zip(before, back, strict=True)] == [-3600, 0, -3600]
    assert [round(b - a, -1) for a, b in zip(before, ahead, strict=True)] == [86400, 0, 86400]
