"""A fine-tune that was lost goes on after its last whole epoch, and ends as if nothing had happened."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from django.utils import timezone

from experiments.conditions import Metric
from experiments.models import Observation, Run
from experiments.parsers import torchtune as parser
from experiments.specs import DataSource, FinetuneSpec, ValidationSpec, spec_to_json
from experiments.states import JobState, RunKind, RunState
from scheduler import dispatch, inventory, stopping
from scheduler.agent import Agent
from scheduler.launchers.local import LocalLauncher
from scheduler.launchers.records import read_supervisor
from scheduler.models import Job
from scheduler.placed import paths_of
from scheduler.programs.base import PlacedJob, Verdict
from tests.engine import LONG_SECONDS, TINY, run_job, words
from tests.factories import make_cell, make_experiment, make_run
from tests.unit.jobs import finetune_spec

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

EPOCHS, ROWS, STEPS = 3, 48, 12  # steps of an epoch
CLOSE = 1e-6  # of a weight: the same arithmetic on the same machine


def tiny(data: DataSource, **fields: Any) -> FinetuneSpec:
    sizes = {"rows": ROWS, "batch_size": 4, "steps_per_epoch": STEPS, "lora_rank": 4, "lora_alpha": 8}
    return finetune_spec(
        **{"model_path": str(TINY), "data": data, "epochs": EPOCHS, "keep": "all", **sizes, **fields}
    )


def validating(data: DataSource, **fields: Any) -> FinetuneSpec:
    asked = ValidationSpec(data=replace(data, split="validation"), rows=10, every_n_steps=5)
    return tiny(data, recipe="lora_validating_single_device", validation=asked, **fields)


def full(data: DataSource, **fields: Any) -> FinetuneSpec:
    return tiny(data, method="full", recipe="full_finetune_single_device", **fields)


def losses(job: PlacedJob | Path) -> dict[int, float]:
    output = job.paths.output if isinstance(job, PlacedJob) else job
    return {record.step: record.loss for record in parser.read_metrics(output)}


def weights(output: Path, epoch: int = EPOCHS - 1) -> dict[str, Any]:
    """Of an epoch, by file: what a safetensors file holds behind its header, which is all 32 bits wide here."""
    found = {}
    for path in (output / f"epoch_{epoch}").glob("*.safetensors"):
        content = path.read_bytes()
        found[path.name] = numpy.frombuffer(content[8 + int.from_bytes(content[:8], "little") :], "<f4")
    return found


def assert_same_weights(one: Path, other: Path) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys() and expected
    for name in expected:
        numpy.testing.assert_allclose(found[name], expected[name], rtol=0, atol=CLOSE)


def record(job: PlacedJob | Path) -> dict[str, Any]:
    output = job.paths.output if isinstance(job, PlacedJob) else job
    found: dict[str, Any] = json.loads((output / "resumed.json").read_text())
    return found


def measured(verdict: Verdict) -> dict[str, Any]:
    return {measurement.metric: measurement for measurement in verdict.measurements}


@pytest.mark.parametrize("make", [tiny, validating, full])
def test_what_goes_on_after_an_epoch_ends_as_what_was_never_interrupted(
    tmp_path: Path, make: Callable[..., FinetuneSpec]
) -> None:
    """torchtune writes no state in the last epoch, so a job that ended looks as one that was lost in it."""
    spec = make(words(tmp_path))
    whole, _ = run_job(tmp_path / "whole", spec)
    expected = whole.paths.output
    again, verdict = run_job(tmp_path / "again", spec, earlier_directories=(whole.paths.directory,))
    assert verdict.outcome.succeeded, verdict.outcome.message
    assert verdict.outcome.message.startswith("It went on after 2 whole epochs of job.")
    assert (record(again)["epochs"], record(again)["steps"]) == (2, 2 * STEPS)
    metrics = parser.read(again.paths.output)
    assert metrics and [step.step for step in metrics.steps] == list(range(2 * STEPS + 1, EPOCHS * STEPS + 1))
    assert losses(again) == losses(whole)
    assert metrics.all_validations == () or make is validating
    assert_same_weights(again.paths.output, expected)
    found = measured(verdict)
    assert found[Metric.JOB_SECONDS].is_bound and found[Metric.PEAK_DEVICE_MEMORY_MIB].is_bound
    assert Metric.STARTUP_SECONDS not in found
    assert sorted(path.name for path in again.paths.output.glob("epoch_*")) == [
        f"epoch_{n}" for n in range(3)
    ]


def test_the_best_epoch_may_be_one_that_was_taken_over(tmp_path: Path) -> None:
    spec = validating(words(tmp_path), keep="best", learning_rate=0.05)
    whole, _ = run_job(tmp_path / "whole", replace(spec, keep="all"))
    again, verdict = run_job(tmp_path / "again", spec, earlier_directories=(whole.paths.directory,))
    assert verdict.outcome.succeeded, verdict.outcome.message
    best = min(_validated(whole).items(), key=lambda pair: pair[1])[0]
    assert [path.name for path in again.paths.output.glob("epoch_*")] == [f"epoch_{best}"]
    assert {path.name for path in whole.paths.output.glob("epoch_*")} == {f"epoch_{n}" for n in range(EPOCHS)}


def _validated(job: PlacedJob) -> dict[int, float]:
    metrics = parser.read(job.paths.output)
    assert metrics
    return {v.step // STEPS - 1: v.val_loss for v in metrics.validations if v.step % STEPS == 0}


def test_a_torn_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    spec = tiny(words(tmp_path))
    whole, _ = run_job(tmp_path / "whole", spec)
    for number, spoil in enumerate(TORN.values()):
        spoil(_copied(whole, tmp_path / "dead" / f"job{number}") / "output")
    earlier = tuple(sorted((tmp_path / "dead").iterdir()))
    again, verdict = run_job(tmp_path / "again", spec, earlier_directories=earlier)
    assert verdict.outcome.succeeded, verdict.outcome.message
    assert verdict.outcome.message.startswith("It was launched before and began anew.")
    doubts = dict(zip(TORN, record(again)["doubts"], strict=True))
    assert all(doubt.startswith(f"job{n}: ") for n, doubt in enumerate(doubts.values())), doubts
    assert {name for name, doubt in doubts.items() if "damaged" in doubt} == {
        "a state that was cut short",
        "a state with a wrong byte",
        "an adapter that was cut short",
        "an epoch that was cut short",
    }
    assert losses(again) == losses(whole)
    metrics = parser.read(again.paths.output)
    assert metrics and not metrics.earlier_steps
    assert not measured(verdict)[Metric.JOB_SECONDS].is_bound
    assert_same_weights(again.paths.output, whole.paths.output)


def _copied(job: PlacedJob, to: Path) -> Path:
    """As if it had run there."""
    shutil.copytree(job.paths.directory, to)
    config = to / "finetune.yaml"
    config.write_text(config.read_text().replace(str(job.paths.directory), str(to)))
    return to


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _drop_a_step(output: Path) -> None:
    (log,) = (output / "logs").glob("log_*.txt")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:5] + lines[6:]))


def _link_away(output: Path) -> None:
    (output / "epoch_0").rename(output / "elsewhere")
    (output / "epoch_0").symlink_to(output / "elsewhere")


TORN: dict[str, Callable[[Path], object]] = {
    "a state that was cut short": lambda output: _cut(output / "recipe_state" / "recipe_state.pt"),
    "a state with a wrong byte": lambda output: _flip(output / "recipe_state" / "recipe_state.pt"),
    "no state": lambda output: (output / "recipe_state" / "recipe_state.pt").unlink(),
    "an adapter that was cut short": lambda output: _cut(output / "epoch_1" / "adapter_model.pt"),
    "an epoch that was cut short": lambda output: _cut(output / "epoch_0" / "adapter_model.safetensors"),
    "no adapter": lambda output: (output / "epoch_1" / "adapter_model.pt").unlink(),
    "a step that was not logged": _drop_a_step,
    "a folder that is a link": _link_away,
}


def test_only_a_job_that_did_the_same_is_gone_on_from(tmp_path: Path) -> None:
    spec = tiny(words(tmp_path), epochs=2)
    whole, _ = run_job(tmp_path / "whole", spec)
    changed = replace(spec, learning_rate=1e-3)
    again, verdict = run_job(tmp_path / "again", changed, earlier_directories=(whole.paths.directory,))
    assert verdict.outcome.succeeded
    assert "its configuration was another" in verdict.outcome.message
    assert not (again.paths.directory / "resume.json").exists()


@pytest.fixture
def agent(tmp_path: Path, settings: Any) -> Iterator[Agent]:
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"
    settings.CACHE_ROOT, settings.GRACE_SECONDS = tmp_path / "cache", 1
    launcher = LocalLauncher()
    reading = inventory.read_node(name="here", cpu_slots=2)
    agent = Agent(reading=reading, launcher=launcher, send=lambda job: None)
    yield agent
    stopping.stop_jobs(now=timezone.now())
    until(agent, lambda: not Job.objects.exclude(state=JobState.ENDED).exists())
    launcher.close()


def until(agent: Agent, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while not reached():
        assert time.monotonic() < deadline, list(Job.objects.values())
        dispatch.tick(now=timezone.now(), send=lambda job: None)
        agent.step(timeout_seconds=0.02)


@pytest.mark.django_db(transaction=True)
def test_a_fine_tune_whose_supervisor_is_killed_goes_on_after_its_last_whole_epoch(
    agent: Agent, tmp_path: Path
) -> None:
    many = 5  # times as many steps, so that it is in the midst of its second epoch when it is killed
    spec = tiny(words(tmp_path, ROWS * many), rows=ROWS * many, steps_per_epoch=STEPS * many)
    whole, _ = run_job(tmp_path / "whole", spec)
    run = make_run(
        cell=make_cell(experiment=make_experiment(approved=True)),
        kind=RunKind.FINETUNE,
        spec=spec_to_json(spec),
        state=RunState.QUEUED,
        limit_seconds=LONG_SECONDS,
    )
    until(agent, lambda: Job.objects.filter(state=JobState.RUNNING).exists())
    lost = Job.objects.get()
    until(agent, lambda: len(losses(paths_of(lost).output)) > STEPS * many)
    supervisor = read_supervisor(paths_of(lost).control)
    assert supervisor and supervisor.supervisor
    os.kill(supervisor.supervisor.pid, signal.SIGKILL)
    until(agent, lambda: Job.objects.count() == 2)
    assert "goes on after its last whole epoch" in run.events.get(reason="SUPERVISOR_LOST").message
    until(agent, lambda: Run.objects.get().is_finished)
    run.refresh_from_db()
    output = Path(run.directory) / "output"
    assert (run.state, run.launches_count) == (RunState.SUCCEEDED, 2), run.message
    assert run.message.startswith("It went on after 1 whole epoch of 000")
    assert record(output)["source"] == lost.directory
    assert losses(output) == losses(whole)
    assert_same_weights(output, whole.paths.output)
    assert not Observation.objects.filter(metric="job_seconds", is_bound=False).exists()
    assert list((paths_of(lost).output / "epoch_0").iterdir())  # what was lost keeps what it had
