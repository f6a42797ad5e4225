"""What the agent does with a job: a job's own files, however odd, never keep it from ending."""

from pathlib import Path
from typing import Any

import pytest

from experiments.models import Observation, Run
from experiments.specs import CommandSpec, EvaluateSpec, spec_to_json
from experiments.states import FinishReason, JobState, RunKind, RunState
from scheduler import watching
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Device, Job
from scheduler.placed import charge, charges, paths_of
from tests.factories import NOW, make_device, make_job, make_run
from tests.unit.jobs import evaluate_spec, finetune_spec, record, write_finetune, write_model, write_result

pytestmark = pytest.mark.django_db

KINDS = {"finetune": RunKind.FINETUNE, "evaluate": RunKind.EVALUATE, "command": RunKind.COMMAND}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.RUN_ROOT, settings.CONTROL_ROOT = tmp_path / "runs", tmp_path / "control"
    settings.CACHE_ROOT = tmp_path / "cache"


def running(*specs: Any, **job: Any) -> tuple[Job, list[Run]]:
    """A job of these specs, with its directory."""
    runs: list[Run] = []
    for spec in specs:
        cell = runs[0].cell if runs else None
        fields: dict[str, Any] = {"kind": KINDS[spec.kind], "spec": spec_to_json(spec)}
        runs.append(make_run(cell=cell, state=RunState.RUNNING, **fields))
    made = make_job(runs=runs, **job)
    type(made.experiment).objects.update(open_jobs=1)
    Run.objects.filter(pk__in=[run.pk for run in runs]).update(fencing_token=made.pk)
    paths = paths_of(made)
    paths.directory.mkdir(parents=True)
    paths.log.touch()
    return made, runs


def ended(job: Job, **fields: Any) -> list[Run]:
    watching.end_all(records=[record(job_id=job.pk, **fields)], known={}, now=NOW)
    job.refresh_from_db()
    assert job.state == JobState.ENDED
    assert not Device.objects.filter(allocated_mib__gt=0).exists()
    return list(Run.objects.order_by("pk"))


def test_ending_a_job_twice_harvests_once() -> None:
    job, _ = running(CommandSpec(argv=("true",)))
    (run,) = ended(job)
    assert run.state == RunState.SUCCEEDED and run.harvested_at
    before = Observation.objects.count()
    assert before
    ended(job)
    assert Observation.objects.count() == before


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", '{"state": "succeeded"}', '{"state": []}', "[" * 100_000]
)
def test_a_result_file_of_any_content_fails_its_run_and_nothing_else(text: str) -> None:
    job, (first, second) = running(evaluate_spec(), evaluate_spec())
    write_result(charge(job).placed, first.pk, predictions=3)
    write_result(charge(job).placed, second.pk, predictions=3)
    (paths_of(job).result(second.pk) / "result.json").write_text(text)
    watching.settle(job=job, now=NOW)
    good, bad = ended(job)
    assert good.state == RunState.SUCCEEDED
    assert bad.state == RunState.FAILED and bad.message


def test_a_failed_run_is_harvested_too() -> None:
    job, _ = running(CommandSpec(argv=("true",)))
    (run,) = ended(job, exit_code=1)
    assert run.state == RunState.FAILED
    assert Observation.objects.filter(run=run, metric="job_seconds").exists()


def test_a_fine_tune_that_removed_its_own_log_still_ends() -> None:
    job, _ = running(finetune_spec())
    write_finetune(charge(job).placed, steps=4)
    paths_of(job).log.unlink()
    (run,) = ended(job)
    assert run.state == RunState.SUCCEEDED


def test_a_loss_that_is_no_number_is_not_observed_and_the_run_still_ends() -> None:
    job, _ = running(finetune_spec())
    write_finetune(charge(job).placed, steps=4)
    lines = "".join(f"Step {step} | loss:nan lr:0.001 \n" for step in range(1, 5))
    (paths_of(job).output / "logs" / "log_1.txt").write_text(lines)
    (run,) = ended(job)
    assert run.is_finished
    assert not Observation.objects.filter(metric="final_loss").exists()


def test_a_nul_in_a_log_does_not_reach_the_database() -> None:
    job, _ = running(CommandSpec(argv=("true",)))
    paths_of(job).log.write_bytes(b"before\0after")
    (run,) = ended(job, exit_code=1)
    assert "before" in run.log_tail and "\0" not in run.log_tail


@pytest.mark.parametrize("config", ["[]", "{", '{"model_type": "llama"}', '{"model_type": "gpt2"}'])
def test_a_job_that_cannot_be_prepared_ends_with_a_sentence(tmp_path: Path, config: str) -> None:
    model = write_model(tmp_path / "model")
    (model / "config.json").write_text(config)
    job, _ = running(finetune_spec(model_path=str(model)), state=JobState.CLAIMED)
    assert watching.launch_all(claimed=charges([job]), launcher=SimulatedLauncher(), now=NOW) == set()
    run = Run.objects.get()
    assert (run.state, run.reason) == (RunState.FAILED, FinishReason.CONFIG_INVALID)
    assert Job.objects.get().state == JobState.ENDED


def test_a_model_that_went_missing_has_its_own_reason(tmp_path: Path) -> None:
    job, _ = running(finetune_spec(model_path=str(tmp_path / "gone")), state=JobState.CLAIMED)
    watching.launch_all(claimed=charges([job]), launcher=SimulatedLauncher(), now=NOW)
    assert Run.objects.get().reason == FinishReason.MODEL_MISSING


def test_a_job_is_claimed_once() -> None:
    job, _ = running(CommandSpec(argv=("true",)), state=JobState.PLACED)
    assert [each.job.pk for each in watching.claim(node=job.node, now=NOW)] == [job.pk]
    assert watching.claim(node=job.node, now=NOW) == []


def test_one_run_of_a_shared_engine_is_cancelled_by_a_file() -> None:
    spec: EvaluateSpec = evaluate_spec()
    job, (first, _) = running(spec, spec)
    Run.objects.filter(pk=first.pk).update(cancel_requested_at=NOW)
    watching.cancel_requested(node=job.node, launcher=SimulatedLauncher(), now=NOW)
    job.refresh_from_db()
    assert (job.state, job.cancel_requested_at) == (JobState.RUNNING, None)
    assert [path.name for path in paths_of(job).cancelled.iterdir()] == [str(first.pk)]


def test_the_tree_ends_when_no_live_run_is_left_in_it() -> None:
    job, _ = running(evaluate_spec(), evaluate_spec())
    Run.objects.update(cancel_requested_at=NOW)
    watching.cancel_requested(node=job.node, launcher=SimulatedLauncher(), now=NOW)
    job.refresh_from_db()
    assert (job.state, job.cancel_requested_at) == (JobState.ENDING, NOW)


def test_the_results_of_a_job_that_lost_its_run_are_refused() -> None:
    job, _ = running(CommandSpec(argv=("true",)))
    Run.objects.update(fencing_token=job.pk + 1)
    (run,) = ended(job)
    assert run.state == RunState.RUNNING
    assert not Observation.objects.exists()


def test_a_device_with_processes_that_cannot_be_killed_is_quarantined() -> None:
    job, _ = running(CommandSpec(argv=("true",)), devices=[make_device()])
    ended(job, unkillable_pids=(41, 42))
    device = Device.objects.get()
    assert device.state == Device.State.QUARANTINED
    assert "41, 42" in device.state_message


def test_a_jobs_script_may_be_run_and_its_folders_are_made(tmp_path: Path) -> None:
    spec = finetune_spec(model_path=str(write_model(tmp_path / "model")))
    job, _ = running(spec, state=JobState.CLAIMED)
    watching.launch_all(
        claimed=charges([job]), launcher=SimulatedLauncher(), now=NOW
    )  # which then takes no real job
    folder = paths_of(job).directory
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("command.sh", "finetune.yaml")}
    assert modes == {"command.sh": 0o755, "finetune.yaml": 0o644}
    assert (folder / "code" / "step_clock.py").is_file()
