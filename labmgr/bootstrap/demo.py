"""The demo: everything set up and started, and a real small experiment followed to its summary."""

import filecmp
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from labmgr.bootstrap import files, health, setup, stack
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import Progress, say

EXPERIMENT = "cap_lora_ranks"
POLL_SECONDS = 3.0  # a question costs a second of CPU, which the fine-tunes need more


def run(configuration: Configuration, *, exit_when_done: bool, fresh: bool) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    say(f"labmgr demo, in {configuration.home}")
    was_up = health.is_up(configuration)
    if not was_up:
        files.make_folders(configuration)
        stack.clear_the_way(configuration)
    try:
        finished = _run_to_summary(configuration, exit_when_done=exit_when_done, fresh=fresh)
        if exit_when_done:
            return exit_code(finished)
        if was_up:
            say("labmgr was up before and stays so; ./lab stop ends it.")
            return 0
        say("labmgr stays up until Ctrl-C, which stops everything.")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("\nInterrupted.")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        if (exit_when_done or not was_up) and stack.stop(configuration, keep_runs=False):
            say("Stopped.")


def _run_to_summary(configuration: Configuration, *, exit_when_done: bool, fresh: bool) -> dict[str, Any]:
    progress, started = Progress(), time.monotonic()
    setup.everything(configuration, progress)
    with progress.step("demo models"):
        copy_models(configuration.repository / "experiments/demo/models", configuration.home / "models")
    found = experiment_state(configuration)
    if found and found["state"] == "FINISHED" and not fresh:
        show_summary(configuration)
        if exit_when_done:
            return found
    stack.up(configuration, progress, set_up=False)
    if not found or found["state"] != "FINISHED" or fresh:
        found = _experiment(configuration, progress, found, fresh=fresh)
    _say_times(progress, time.monotonic() - started)
    stack.say_addresses(configuration)
    return found


def _experiment(
    configuration: Configuration, progress: Progress, found: dict[str, Any] | None, *, fresh: bool
) -> dict[str, Any]:
    if found and fresh:
        with progress.step("forgetting the last one"):
            if found["state"] == "RUNNING":
                setup.manage(configuration, "cancel", EXPERIMENT)
                watch(configuration)
            setup.manage(configuration, "forget", EXPERIMENT, "--yes", timeout=120)
    if not found or fresh or found["state"] == "DRAFT":
        with progress.step("plan and approval"):
            document = configuration.repository / "experiments/demo/experiment.yaml"
            setup.manage(configuration, "plan", str(document), "--approve")
    began = time.monotonic()
    finished = watch(configuration)
    progress.seconds["experiment"] = time.monotonic() - began
    show_summary(configuration)
    return finished


def copy_models(source: Path, destination: Path) -> None:
    """Each model folder, whole or not at all; one that is there and the same is left alone."""
    for model in sorted(path for path in source.glob("*") if path.is_dir()):
        target = destination / model.name
        if target.is_dir() and _same(model, target):
            continue
        files.require_space(destination, 0.1, purpose="the demo models")
        partial = destination / f".{model.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(model, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def _same(left: Path, right: Path) -> bool:
    compared = filecmp.dircmp(left, right, ignore=[])
    return not (compared.left_only or compared.diff_files or compared.funny_files)


def experiment_state(configuration: Configuration) -> dict[str, Any] | None:
    document = setup.last_json(setup.manage(configuration, "status", "--json", timeout=60))
    experiments = document.get("experiments")
    if not isinstance(experiments, list):
        return None
    return next((found for found in experiments if found["name"] == EXPERIMENT), None)


def watch(configuration: Configuration) -> dict[str, Any]:
    """One line a change, until the experiment is finished."""
    os.nice(5)
    began = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        found = experiment_state(configuration) or {"state": "DRAFT", "runs": [], "cells": {}}
        for entry in found["runs"]:
            text = describe(entry)
            if shown.get(entry["name"]) != text:
                shown[entry["name"]] = text
                say(f"  {time.monotonic() - began:5.0f} s  {entry['name']:<36} {text}")
        if found["state"] == "FINISHED":
            return found
        time.sleep(POLL_SECONDS)


def describe(entry: dict[str, Any]) -> str:
    why = ": ".join(str(part) for part in (entry.get("reason"), entry.get("message")) if part)
    return (
        f"{entry['state']}  {why}".rstrip()
        if entry["state"] in ("FAILED", "CANCELLED")
        else str(entry["state"])
    )


def show_summary(configuration: Configuration) -> None:
    say()
    say(setup.manage(configuration, "summary", EXPERIMENT, timeout=60).rstrip())


def exit_code(experiment: dict[str, Any]) -> int:
    """0 only if every cell succeeded, and there was one."""
    return 0 if {state for state, number in experiment["cells"].items() if number} == {"SUCCEEDED"} else 1


def _say_times(progress: Progress, total: float) -> None:
    say("\n  Time taken")
    for name, seconds in progress.seconds.items():
        say(f"    {name:<46} {seconds:7.1f} s")
    say(
        f"    all                                            {total:7.1f} s, of which pip took "
        f"{progress.installing_seconds:.1f} s and labmgr {total - progress.installing_seconds:.1f} s"
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
