"""The agent with real processes: from a placed job to an ended one, across restarts, without any message."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from experiments import control
from experiments.models import Experiment, Observation, Run
from experiments.specs import CommandSpec, SimulatedSpec, spec_to_json
from experiments.states import FinishReason, JobState, RunKind, RunState
from scheduler import dispatch, inventory, stopping, watching
from scheduler.agent import Agent
from scheduler.inventory import NodeReading
from scheduler.launchers import process_tree
from scheduler.launchers.base import LaunchError, LaunchRequest
from scheduler.launchers.local import LocalLauncher
from scheduler.launchers.records import read_supervisor
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Device, Job, Node
from scheduler.placed import paths_of
from scheduler.queries import waiting_reasons
from tests.factories import make_cell, make_experiment, make_run

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE_STEPS = 300
FOREVER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")


@pytest.fixture
def folders(tmp_path: Path, settings: object) -> None:
    settings.RUN_ROOT = tmp_path / "runs"  # type: ignore[attr-defined]
    settings.CONTROL_ROOT = tmp_path / "control"  # type: ignore[attr-defined]
    settings.CACHE_ROOT = tmp_path / "cache"  # type: ignore[attr-defined]
    settings.GRACE_SECONDS = 1  # type: ignore[attr-defined]


@pytest.fixture
def new_agent(folders: None) -> Iterator[Callable[[], Agent]]:
    """Agents of the node `here`, as each restart of its worker would make one."""
    launchers: list[LocalLauncher] = []

    def make() -> Agent:
        launchers.append(LocalLauncher())
        return Agent(reading=reading(), launcher=launchers[-1], send=lambda job: None)

    yield make
    stopping.stop_jobs(now=timezone.now())
    agent = make()
    until(agent, lambda: not Job.objects.exclude(state=JobState.ENDED).exists())
    for launcher in launchers:
        launcher.close()


def reading() -> NodeReading:
    return inventory.read_node(name="here", cpu_slots=2)


def until(agent: Agent, reached: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_STEPS):
        dispatch.tick(now=timezone.now(), send=lambda job: None)
        agent.step(timeout_seconds=0.1)
        if reached():
            return
    pytest.fail(f"not reached; jobs: {list(Job.objects.values())}")


def queue_command(
    argv: tuple[str, ...], *, limit_seconds: int = 60, experiment: Experiment | None = None, **spec: object
) -> Run:
    cell = make_cell(experiment=experiment or make_experiment(approved=True))
    command = CommandSpec(argv=argv, **spec)  # type: ignore[arg-type]
    return make_run(
        cell=cell,
        state=RunState.QUEUED,
        kind=RunKind.COMMAND,
        spec=spec_to_json(command),
        limit_seconds=limit_seconds,
    )


def state_is(run: Run, *states: str) -> Callable[[], bool]:
    return lambda: Run.objects.get(pk=run.pk).state in states


def is_up(run: Run) -> Callable[[], bool]:
    def up() -> bool:
        path = Run.objects.get(pk=run.pk).log_path
        return path is not None and path.exists() and "up" in path.read_text()

    return up


def test_a_command_succeeds_and_is_harvested(new_agent: Callable[[], Agent]) -> None:
    run = queue_command((sys.executable, "-c", "open('out.txt', 'w').close()"), expected_files=("out.txt",))
    until(new_agent(), state_is(run, RunState.SUCCEEDED))
    job = Job.objects.get()
    assert (job.state, job.exit_code, job.ending) == (JobState.ENDED, 0, "exited")
    assert set(Observation.objects.values_list("metric", flat=True)) >= {
        "job_seconds",
        "peak_host_memory_mib",
    }
    assert Device.objects.filter(allocated_mib__gt=0).count() == 0


def test_exit_code_0_without_the_expected_files_is_no_success(new_agent: Callable[[], Agent]) -> None:
    run = queue_command(("true",), expected_files=("out.txt",))
    until(new_agent(), state_is(run, RunState.FAILED))
    run.refresh_from_db()
    assert run.reason == FinishReason.RESULT_INCOMPLETE
    assert "out.txt" in run.message


def test_a_failing_command_is_explained_by_its_log(new_agent: Callable[[], Agent]) -> None:
    run = queue_command((sys.executable, "-c", "print('why'); raise SystemExit(3)"))
    until(new_agent(), state_is(run, RunState.FAILED))
    run.refresh_from_db()
    assert (run.reason, run.log_tail) == (FinishReason.EXIT_CODE, "why")
    assert "Exit code 3." in run.message


def test_a_command_whose_cause_is_mended_succeeds_as_its_next_attempt(
    new_agent: Callable[[], Agent], tmp_path: Path
) -> None:
    wanted = tmp_path / "wanted.txt"
    experiment, agent = make_experiment(approved=True), new_agent()
    script = f"open({str(wanted)!r}); open('out.txt', 'w').close()"
    run = queue_command((sys.executable, "-c", script), experiment=experiment, expected_files=("out.txt",))
    whole = queue_command(("true",), experiment=experiment)
    until(agent, lambda: not Run.objects.unfinished().exists())
    assert state_is(run, RunState.FAILED)()
    wanted.touch()
    call_command("rerun", experiment.name, "--failed")
    until(agent, lambda: not Run.objects.unfinished().exists())
    again = Run.objects.get(name=run.name)
    assert (again.attempt, again.state) == (2, RunState.SUCCEEDED)
    assert state_is(whole, RunState.SUCCEEDED)() and Run.objects.get(name=whole.name) == whole
    first, second = (Path(each.directory) for each in Run.every.filter(name=run.name).order_by("attempt"))
    assert first != second and (second / "out.txt").is_file()
    shutil.rmtree(second)
    call_command("rerun", experiment.name, "--missing")
    until(agent, lambda: not Run.objects.unfinished().exists())
    assert (Path(Run.objects.get(name=run.name).directory) / "out.txt").is_file()
    assert Run.objects.get(name=run.name).attempt == 3


def test_a_program_that_is_not_there_fails_with_a_sentence(new_agent: Callable[[], Agent]) -> None:
    run = queue_command(("/no/such/program",))
    until(new_agent(), state_is(run, RunState.FAILED))
    run.refresh_from_db()
    assert run.reason == FinishReason.LAUNCH_FAILED
    assert "/no/such/program" in run.message


def test_nobody_waits_for_a_job_that_could_not_be_launched(
    new_agent: Callable[[], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(launcher: LocalLauncher, requests: Sequence[LaunchRequest]) -> dict[int, LaunchError]:
        return {request.job_id: LaunchError("for this test") for request in requests}

    monkeypatch.setattr(LocalLauncher, "submit_all", refuse)
    run = queue_command(("true",))
    agent = new_agent()
    until(agent, state_is(run, RunState.FAILED))
    assert not agent.watches(Job.objects.get().pk)


def test_a_killed_process_fails_with_its_own_reason(new_agent: Callable[[], Agent]) -> None:
    run = queue_command((sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    until(new_agent(), state_is(run, RunState.FAILED))
    run.refresh_from_db()
    assert run.reason == FinishReason.KILLED


def test_a_run_past_its_limit_ends_timed_out_with_its_tree_gone(new_agent: Callable[[], Agent]) -> None:
    script = "import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
    run = queue_command((sys.executable, "-c", script), limit_seconds=1)
    until(new_agent(), state_is(run, RunState.FAILED))
    run.refresh_from_db()
    assert run.reason == FinishReason.TIMED_OUT
    child = int(run.log_path.read_text())  # type: ignore[union-attr]
    assert not Path(f"/proc/{child}").exists() or is_zombie(child)


def test_a_cancelled_run_frees_its_device_after_its_tree_is_gone(new_agent: Callable[[], Agent]) -> None:
    run, agent = queue_command(FOREVER), new_agent()
    until(agent, is_up(run))
    control.cancel_run(run=run, user=None, now=timezone.now())
    until(agent, state_is(run, RunState.CANCELLED))
    run.refresh_from_db()
    assert run.reason == FinishReason.CANCELLED_BY_USER
    assert not Device.objects.filter(allocated_mib__gt=0).exists()


def test_a_job_outlives_its_agent_and_is_adopted_by_the_next(
    new_agent: Callable[[], Agent], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = queue_command((sys.executable, "-c", f"print('up', flush=True); open({str(gate)!r}).read()"))
    until(new_agent(), is_up(run))
    second = new_agent()
    second.step(timeout_seconds=0)
    gate.write_text("go on")
    until(second, state_is(run, RunState.SUCCEEDED))
    assert Job.objects.count() == 1
    assert Node.objects.get().session_epoch == 2


def test_a_job_that_was_claimed_and_never_launched_is_launched_by_the_next_agent(
    new_agent: Callable[[], Agent],
) -> None:
    run = queue_command(("true",))
    inventory.record(reading())
    Node.objects.update(session_renewed_at=timezone.now())
    dispatch.tick(now=timezone.now(), send=lambda job: None)
    Job.objects.update(state=JobState.CLAIMED)
    until(new_agent(), state_is(run, RunState.SUCCEEDED))
    assert Job.objects.count() == 1


def test_what_an_agent_frees_it_places_and_claims_and_launches_without_a_ticker(
    new_agent: Callable[[], Agent],
) -> None:
    experiment = make_experiment(approved=True, max_parallel=1)
    first = queue_command(("true",), experiment=experiment)
    agent = new_agent()
    until(agent, lambda: Job.objects.filter(launches__run=first).exists())
    second = queue_command(("true",), experiment=experiment)
    for _ in range(PATIENCE_STEPS):
        agent.step(timeout_seconds=0.1)
        if state_is(second, RunState.SUCCEEDED)():
            break
    job = Job.objects.get(launches__run=second)
    assert job.state == JobState.ENDED and job.claimed_at == job.placed_at


def test_a_claim_whose_answer_was_lost_is_found_again(
    new_agent: Callable[[], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queue_command(("true",))
    agent = new_agent()
    agent.step(timeout_seconds=0)
    dispatch.tick(now=timezone.now(), send=lambda job: None)
    claim, end_all, lost = watching.claim, watching.end_all, []

    def claim_and_lose(**given: Any) -> list[Job]:
        found = claim(**given)
        if found and not lost:
            lost.append(found)
            raise OperationalError("the server closed the connection")
        return found

    def end_and_stop(**given: Any) -> None:
        end_all(**given)
        agent.stop()

    monkeypatch.setattr(watching, "claim", claim_and_lose)
    monkeypatch.setattr(watching, "end_all", end_and_stop)
    agent.run()
    assert lost and state_is(run, RunState.SUCCEEDED)()


def test_a_job_whose_supervisor_was_killed_is_launched_again(
    new_agent: Callable[[], Agent], settings: object
) -> None:
    run, agent = queue_command(FOREVER), new_agent()
    until(agent, is_up(run))
    first = Job.objects.get()
    kill_supervisor(paths_of(first).control)
    until(agent, lambda: Job.objects.count() == 2 and Run.objects.get(pk=run.pk).fencing_token != first.pk)
    first.refresh_from_db(), run.refresh_from_db()
    assert (first.ending, run.state) == ("supervisor_lost", RunState.RUNNING)


def test_a_running_job_whose_records_are_gone_is_never_doubled(new_agent: Callable[[], Agent]) -> None:
    run = queue_command(FOREVER)
    until(new_agent(), is_up(run))
    first = Job.objects.get()
    leader = read_supervisor(paths_of(first).control).leader  # type: ignore[union-attr]
    shutil.rmtree(paths_of(first).control)
    until(new_agent(), lambda: Job.objects.count() == 2)
    first.refresh_from_db()
    assert (first.state, first.ending) == (JobState.ENDED, "supervisor_lost")
    assert process_tree.find(leader.pid) != leader  # type: ignore[union-attr]


def test_being_stopped_queues_a_run_again(new_agent: Callable[[], Agent]) -> None:
    run, agent = queue_command(FOREVER), new_agent()
    until(agent, is_up(run))
    assert stopping.stop_jobs(now=timezone.now()) == 1
    until(agent, state_is(run, RunState.QUEUED))
    run.refresh_from_db()
    assert (run.reason, run.launches_count) == (FinishReason.STOPPED, 0)


def test_a_job_sees_none_of_the_services_secrets(
    new_agent: Callable[[], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL_SECRET", "hidden")
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@localhost")
    run = queue_command((sys.executable, "-c", "import os; print(sorted(os.environ))"))
    until(new_agent(), state_is(run, RunState.SUCCEEDED))
    run.refresh_from_db()
    seen = run.log_path.read_text()  # type: ignore[union-attr]
    assert "DATABASE" not in seen and "REDIS" not in seen and "SECRET" not in seen


def test_a_run_that_waits_says_why(new_agent: Callable[[], Agent]) -> None:
    experiment = make_experiment(approved=True, max_parallel=1)
    running, waiting = (
        queue_command(FOREVER, experiment=experiment),
        queue_command(("true",), experiment=experiment),
    )
    until(new_agent(), is_up(running))
    assert "max_parallel" in waiting_reasons()[waiting.pk]


def test_a_simulated_run_takes_its_time_on_a_simulated_device(folders: None) -> None:
    simulated = inventory.read_simulated(name="here-simulated", text="2x80GiB")
    agent = Agent(reading=simulated, launcher=SimulatedLauncher(), send=lambda job: None)
    cell = make_cell(experiment=make_experiment(approved=True))
    spec = spec_to_json(SimulatedSpec(duration_seconds=0.2))
    run = make_run(cell=cell, state=RunState.QUEUED, kind=RunKind.SIMULATED, spec=spec)
    until(agent, state_is(run, RunState.SUCCEEDED))


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def kill_supervisor(control_dir: Path) -> None:
    record = read_supervisor(control_dir)
    assert record is not None and record.supervisor is not None
    os.kill(record.supervisor.pid, signal.SIGKILL)
