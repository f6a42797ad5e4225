"""A small workload end to end, through real workers, on both databases."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.lab import REPOSITORY

WORKLOAD = """submit_seconds,duration_seconds,devices,memory_mib,priority,user,pool
0,0.3,1,,0,a,x
0,0.2,2,,5,b,x
0.1,0.2,1,40960,0,a,x
0.1,0.2,1,40960,0,a,x
0,0.2,1,,0,a,y
0.5,0.2,2,,0,b,y
"""


def replay(workload: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "manage.py", "replay", str(workload), "--devices", "2", "--json", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=dict(os.environ), timeout=500
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("options", [(), ("--postgres",), ("--in-memory",)])
def test_a_small_workload_is_replayed(tmp_path: Path, options: tuple[str, ...]) -> None:
    workload = tmp_path / "small.csv"
    workload.write_text(WORKLOAD)
    found = replay(workload, "--pools", "2", *options)
    assert (found["jobs"], found["lost"], found["doubled"], found["errors"]) == (6, 0, 0, 0)
    assert found["makespan_seconds"] >= found["lower_bound_seconds"] == 0.7
    assert set(found["mean_wait_seconds"]) == {"1", "2"}


def test_a_bad_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    workload = tmp_path / "bad.csv"
    workload.write_text(WORKLOAD + "0,soon,1,,0,a,x\n")
    with pytest.raises(CommandError, match="line 8, duration_seconds: 'soon'"):
        call_command("replay", workload, devices=2)


def test_fewer_pools_than_the_file_names_are_refused(tmp_path: Path) -> None:
    workload = tmp_path / "small.csv"
    workload.write_text(WORKLOAD)
    with pytest.raises(CommandError, match="--pools 1 is less than the 2"):
        call_command("replay", workload, devices=2, pools=1)
