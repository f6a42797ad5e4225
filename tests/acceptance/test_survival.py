"""Runs outlive what runs them: workers, the whole of labmgr, the broker. And what goes wrong is told."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def command(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "command": {"argv": [sys.executable, "-c", script]}, **more}


def waiting_for(gate: Path) -> str:
    """A program that goes on once somebody writes into the gate, and has a child meanwhile."""
    os.mkfifo(gate)
    return f"""
import subprocess
child = subprocess.Popen(["sleep", "600"])
print("up", flush=True)
open({str(gate)!r}).read()
child.kill()
"""


def tiny_finetune(name: str, **fixed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "dataset": {"generator": "capitalization", "word_length": 5, "words": 600},
        "factors": {"model": ["tiny-llama-s"]},
        "fixed": {"batch_size": 4, "epochs": 2, "learning_rate": 1e-3, "max_seq_len": 128, **fixed},
    }


def jobs_of(lab: Lab, experiment: str) -> list[Any]:
    return lab.rows(
        "SELECT j.* FROM scheduler_job j JOIN experiments_experiment e ON e.id = j.experiment_id WHERE e.name = ?",
        experiment,
    )


def test_a_fine_tune_outlives_its_worker_and_is_adopted(lab: Lab) -> None:
    name = lab.start(tiny_finetune("outlives_worker"))
    lab.wait_for_log(name, "tiny-llama-s/finetune", "Loss:")
    worker = lab.pid("node")
    lab.kill("node", signal.SIGKILL)
    until(lambda: lab.pid("node") != worker, seconds=60)
    row = lab.wait_for_state(name, "tiny-llama-s/finetune", "SUCCEEDED", "FAILED", "CANCELLED", seconds=300)
    assert (row["state"], row["launches_count"]) == ("SUCCEEDED", 1), row["message"]
    assert len(jobs_of(lab, name)) == 1


def test_runs_go_on_while_labmgr_is_stopped_and_started_anew(lab: Lab, tmp_path: Path) -> None:
    name = lab.start(command("outlives_labmgr", waiting_for(tmp_path / "gate")))
    lab.wait_for_log(name, name, "up")
    assert lab.run("stop", "--keep-runs").returncode == 0
    assert lab.job_processes()
    assert lab.run("up", timeout=300).returncode == 0
    (tmp_path / "gate").write_text("go on")
    row = lab.wait_for_state(name, name, "SUCCEEDED", "FAILED")
    assert row["state"] == "SUCCEEDED", row["message"]
    assert len(jobs_of(lab, name)) == 1


def test_what_was_kept_and_is_stopped_after_all_is_queued_again(lab: Lab, tmp_path: Path) -> None:
    name = lab.start(command("stopped_later", waiting_for(tmp_path / "gate")))
    lab.wait_for_log(name, name, "up")
    assert lab.run("stop", "--keep-runs").returncode == 0
    assert lab.run("stop").returncode == 0
    assert lab.job_processes() == []
    lab.up()
    until(lambda: len(jobs_of(lab, name)) == 2, seconds=60)
    events = lab.rows(
        "SELECT reason FROM experiments_runevent WHERE run_id = ?", lab.run_row(name, name)["id"]
    )
    assert "STOPPED" in {event["reason"] for event in events}
    lab.manage("cancel", name)
    lab.wait_for_state(name, name, "CANCELLED")


def test_cancelling_ends_the_whole_tree_before_the_device_is_free(lab: Lab, tmp_path: Path) -> None:
    name = lab.start(command("cancelled", waiting_for(tmp_path / "gate")))
    lab.wait_for_log(name, name, "up")
    lab.manage("cancel", name)
    row = lab.wait_for_state(name, name, "CANCELLED", "FAILED")
    assert (row["state"], row["reason"]) == ("CANCELLED", "CANCELLED_BY_USER")
    assert lab.job_processes() == []
    assert lab.rows("SELECT id FROM scheduler_device WHERE allocated_mib > 0") == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_experiment_finishes_without_its_broker(lab: Lab, how: signal.Signals) -> None:
    name = lab.start(
        command(
            f"no_broker_{how.name}",
            "import time; time.sleep(1)",
            factors={"part": [1, 2, 3, 4]},
            max_parallel=1,
        )
    )
    until(lambda: bool(jobs_of(lab, name)), seconds=60)
    redis = lab.pid("redis")
    os.kill(redis, how)
    try:
        until(lambda: all(row["state"] == "SUCCEEDED" for row in lab.summary(name).values()), seconds=120)
    finally:
        if how is signal.SIGSTOP:
            os.kill(redis, signal.SIGCONT)


def test_each_failure_has_its_own_reason_and_the_other_cells_finish(lab: Lab) -> None:
    script = (
        "import os, time; part = '{part}'\n"
        "if part == 'killed': os.kill(os.getpid(), 9)\n"
        "if part == 'slow': time.sleep(600)\n"
        "if part == 'broken': raise SystemExit(3)\n"
    )
    parts = ["fine", "killed", "slow", "broken"]
    name = lab.start(
        command("reasons", script, factors={"part": parts}, limits={"timeout_seconds": 5}, max_parallel=4)
    )
    until(
        lambda: all(row["state"] in ("SUCCEEDED", "FAILED") for row in lab.summary(name).values()),
        seconds=120,
    )
    rows = lab.summary(name)
    assert {row: (rows[row]["state"], rows[row]["reason"]) for row in rows} == {
        "partfine": ("SUCCEEDED", None),
        "partkilled": ("FAILED", "KILLED"),
        "partslow": ("FAILED", "TIMED_OUT"),
        "partbroken": ("FAILED", "EXIT_CODE"),
    }
    assert all(rows[row]["message"] for row in rows if rows[row]["state"] == "FAILED")
    assert lab.job_processes() == []


def test_a_broken_adapter_fails_its_own_run_in_a_shared_engine(lab: Lab) -> None:
    document = tiny_finetune("broken_adapter", max_steps_per_epoch=5)
    document["factors"] = {"model": ["tiny-llama-s"], "lora_rank": [4, 8]}
    document |= {"evaluation": {"split": "test", "limit": 5}, "control": True, "max_parallel": 1}
    name = lab.start(document)
    row = lab.wait_for_state(name, "tiny-llama-s_rank4/finetune", "SUCCEEDED", "FAILED", seconds=300)
    assert row["state"] == "SUCCEEDED", row["message"]
    (Path(row["directory"]) / "output" / "epoch_1" / "adapter_model.safetensors").write_bytes(b"broken")
    until(lambda: all(r["state"] in ("SUCCEEDED", "FAILED") for r in lab.summary(name).values()), seconds=300)
    rows = lab.summary(name)
    assert (rows["tiny-llama-s_rank4"]["state"], rows["tiny-llama-s_rank4"]["reason"]) == (
        "FAILED",
        "ADAPTER_INVALID",
    )
    assert rows["tiny-llama-s_rank8"]["state"] == rows["tiny-llama-s_base"]["state"] == "SUCCEEDED"


def test_what_cannot_be_planned_is_refused_with_a_sentence(lab: Lab) -> None:
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "missing_model": ({"factors": {"model": ["tiny-lama-s"]}}, "Did you mean 'tiny-llama-s'?"),
        "trains_nothing": ({"fixed": {"batch_size": 100_000}}, "Nothing would be trained"),
        "unknown_key": ({"fixed": {"batchsize": 4}}, "Did you mean 'batch_size'?"),
        "unknown_recipe_key": (
            {"fixed": {"torchtune": {"optimizer.lrr": 1}}},
            "Did you mean 'optimizer.lr'?",
        ),
        "component": ({"fixed": {"torchtune": {"loss._component_": "os.system"}}}, "not on the allow-list"),
    }
    for name, (change, sentence) in wrong.items():
        file = lab.home / "wrong.yaml"
        file.write_text(repr({**tiny_finetune(name), **change}).replace("'", '"').replace("None", "null"))
        done = lab.run("manage", "plan", str(file), "--approve")
        assert done.returncode == 1
        assert sentence in done.stderr, done.stderr
        assert lab.rows("SELECT id FROM experiments_experiment WHERE name = ?", name) == []
