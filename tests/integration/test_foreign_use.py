"""GPUs that others use: not offered, looked at again before a launch, and given when they are free."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from experiments.models import Run, RunEvent
from experiments.specs import CommandSpec, spec_to_json
from experiments.states import FinishReason, JobState, RunKind, RunState
from scheduler import dispatch, inventory, placed, queue, stopping
from scheduler.agent import Agent
from scheduler.inventory import looking
from scheduler.launchers.local import LocalLauncher
from scheduler.models import Device, Job, Node
from tests.factories import make_cell, make_experiment, make_run
from tests.fake_nvml import GPU_IS_LOST, Inventory
from tests.gpus import gpus, nvml_library

__all__ = ["gpus", "nvml_library"]
pytestmark = pytest.mark.django_db(transaction=True)

STEPS = 300
SHOW = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER'])"


@pytest.fixture
def agent(gpus: Inventory, tmp_path: Path, settings: object) -> Iterator[Agent]:
    """Of a node with one GPU."""
    for name in ("RUN_ROOT", "CONTROL_ROOT", "CACHE_ROOT"):
        setattr(settings, name, tmp_path / name)
    settings.GRACE_SECONDS = 1  # type: ignore[attr-defined]
    gpus.lines = gpus.lines[:1]
    gpus.write()
    launcher = LocalLauncher()
    agent = Agent(
        reading=inventory.read_node(name="here", cpu_slots=1), launcher=launcher, send=lambda job: None
    )
    agent.step(timeout_seconds=0)
    yield agent
    stopping.stop_jobs(now=timezone.now())
    until(agent, lambda: not Job.objects.exclude(state=JobState.ENDED).exists())
    launcher.close()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def until(agent: Agent, reached: Callable[[], bool]) -> None:
    for _ in range(STEPS):
        tick()
        agent.step(timeout_seconds=0.1)
        if reached():
            return
    pytest.fail(f"not reached; jobs: {list(Job.objects.values())}")


def tick() -> int:
    return dispatch.tick(now=timezone.now(), send=lambda job: None)


def look() -> Device:
    looking.look(node=Node.objects.get(), now=timezone.now())
    return Device.objects.get()


def queued(*argv: str, memory_mib: int | None = None) -> Run:
    return make_run(
        cell=make_cell(experiment=make_experiment(approved=True)),
        state=RunState.QUEUED,
        kind=RunKind.COMMAND,
        spec=spec_to_json(CommandSpec(argv=argv or (sys.executable, "-c", SHOW))),
        device_memory_mib=memory_mib,
    )


def succeeded(run: Run) -> Callable[[], bool]:
    return lambda: Run.objects.get(pk=run.pk).state == RunState.SUCCEEDED


def test_a_gpu_that_others_use_is_not_offered_whole_and_their_memory_not_at_all(
    agent: Agent, gpus: Inventory, stranger: subprocess.Popen[bytes]
) -> None:
    gpus.write(f"compute 0 {stranger.pid} 12000")
    device = look()
    assert device.foreign_mib == 12000
    assert f"(pid {stranger.pid})" in device.foreign_use and "uses 12,000 MiB" in device.foreign_use
    (free,) = queue.free_nodes()[0].devices
    assert (free.memory_mib, free.free_mib) == (81559, 69559)
    queued()
    assert tick() == 0


def test_a_gpu_taken_just_before_the_launch_sends_its_run_back_and_says_by_whom(
    agent: Agent, gpus: Inventory, stranger: subprocess.Popen[bytes]
) -> None:
    run = queued()
    assert tick() == 1
    gpus.write(f"compute 0 {stranger.pid} 12000")
    agent.step(timeout_seconds=0)
    run.refresh_from_db()
    assert (run.state, run.reason, run.launches_count) == (RunState.QUEUED, FinishReason.DEVICE_TAKEN, 0)
    assert f"(pid {stranger.pid})" in run.message and "here:0" in run.message
    assert (Job.objects.get().state, Device.objects.get().allocated_mib) == (JobState.ENDED, 0)
    assert tick() == 0  # it is not placed there again, and again
    gpus.write()
    look()
    until(agent, succeeded(run))
    states = list(RunEvent.objects.filter(run=run).order_by("pk").values_list("state", flat=True))
    assert states[1:] == [RunState.RUNNING, RunState.QUEUED, RunState.RUNNING, RunState.SUCCEEDED]


def test_a_share_is_launched_beside_others_as_long_as_there_is_room(
    agent: Agent, gpus: Inventory, stranger: subprocess.Popen[bytes]
) -> None:
    run, too_much = queued(memory_mib=60000), queued(memory_mib=20000)
    assert tick() == 2
    gpus.write(f"compute 0 {stranger.pid} 1559")
    until(agent, succeeded(run))
    until(agent, succeeded(too_much))
    again = queued(memory_mib=80000)
    assert tick() == 1
    gpus.write(f"compute 0 {stranger.pid} 1560")
    until(agent, lambda: not Job.objects.exclude(state=JobState.ENDED).exists())
    again.refresh_from_db()
    assert (again.state, again.reason) == (RunState.QUEUED, FinishReason.DEVICE_TAKEN)


def test_a_job_sees_its_gpu_by_uuid_in_pci_order(agent: Agent) -> None:
    run = queued()
    until(agent, succeeded(run))
    run.refresh_from_db()
    assert run.log_path is not None and run.log_path.read_text() == "GPU-0 PCI_BUS_ID\n"


def test_our_own_jobs_are_not_foreign_however_much_they_take(
    agent: Agent, gpus: Inventory, tmp_path: Path
) -> None:
    """Also a grandchild in a session of its own, that has wiped its environment."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    wiped = f"import os; print(os.getpid(), flush=True); open({str(gate)!r}).read()"
    script = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {wiped!r}], env={{}}, start_new_session=True)"
    run = queued(sys.executable, "-c", script, memory_mib=100)
    until(agent, lambda: has_printed(run))
    gpus.write(f"compute 0 {printed(run)} 70000")
    device = look()
    gate.write_text("go on")
    assert (device.foreign_mib, device.foreign_use) == (0, "")
    until(agent, succeeded(run))


def test_a_job_of_another_installation_is_foreign(agent: Agent, gpus: Inventory, tmp_path: Path) -> None:
    marks = {"LABMGR_JOB_ID": "1", "LABMGR_CONTROL_DIR": str(tmp_path / "elsewhere")}
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, env=marks
    )
    try:
        gpus.write(f"compute 0 {other.pid} 500")
        assert look().foreign_mib == 500
    finally:
        other.communicate()


def test_a_gpu_that_breaks_before_the_launch_is_drained_and_its_run_queued_again(
    agent: Agent, gpus: Inventory
) -> None:
    run = queued()
    assert tick() == 1
    gpus.write(f"fail 0 memory {GPU_IS_LOST}")
    agent.step(timeout_seconds=0)
    run.refresh_from_db()
    device = Device.objects.get()
    assert (run.state, run.reason, run.launches_count) == (RunState.QUEUED, FinishReason.DEVICE_FAILED, 0)
    assert (device.state, device.state_message) == (Device.State.DRAINED, "NVML says: GPU is lost")
    assert tick() == 0


def test_what_a_job_left_on_its_gpu_is_ended_before_the_gpu_is_given_on(
    agent: Agent, gpus: Inventory, tmp_path: Path
) -> None:
    """Its supervisor cannot see it, since it descends from somebody else: only its marks tell."""
    run = queued(sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
    until(agent, lambda: has_printed(run))
    job = Job.objects.get()
    marks = {
        "LABMGR_JOB_ID": str(job.pk),
        "LABMGR_CONTROL_DIR": str(placed.paths_of(job).control.resolve()),
    }
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, **marks})
    try:
        gpus.write(f"compute 0 {left.pid} 500")
        stopping.stop_jobs(now=timezone.now())
        until(agent, lambda: Job.objects.get().state == JobState.ENDED)
        assert left.wait(timeout=10) == -9
        assert Device.objects.get().state == Device.State.AVAILABLE
    finally:
        left.kill()
        left.wait()


def has_printed(run: Run) -> bool:
    path = Run.objects.get(pk=run.pk).log_path
    return path is not None and path.exists() and path.read_text().endswith("\n")


def printed(run: Run) -> int:
    path = Run.objects.get(pk=run.pk).log_path
    assert path is not None
    return int(path.read_text())
