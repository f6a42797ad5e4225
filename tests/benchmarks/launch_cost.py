"""What it costs to launch a job: milliseconds of CPU per `true`, supervisor and job together.

    python tests/benchmarks/launch_cost.py [launches]

Compares supervisors forked from a process that has everything loaded, as by the resident launcher, with
supervisors that are Python interpreters of their own. Then the whole launcher, for the agent's share and the
time on the clock.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scheduler.launchers import records  # noqa: E402
from scheduler.launchers.base import LaunchRequest  # noqa: E402
from scheduler.launchers.local import LocalLauncher  # noqa: E402

COLD = """
import sys, pathlib
from scheduler.launchers import supervisor
supervisor.main(pathlib.Path(sys.argv[1]), 1)
"""
FORKING = """
import gc, os, sys, pathlib
from scheduler.launchers import resident, supervisor
gc.freeze()
for folder in sys.argv[1:]:
    if os.fork() == 0:
        supervisor.main(pathlib.Path(folder), os.dup(1))
    os.wait()
"""


def requests(folder: Path, count: int) -> list[LaunchRequest]:
    return [
        LaunchRequest(
            job_id=number,
            argv=("/bin/true",),
            env={},
            cwd=folder,
            log_path=folder / f"{number}.log",
            control_dir=folder / f"control-{number}",
            limit_seconds=60.0,
        )
        for number in range(count)
    ]


def python(code: str, *control_dirs: Path) -> None:
    command = [sys.executable, "-S", "-P", "-c", code, *map(str, control_dirs)]
    subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True)


def forked(control_dirs: list[Path]) -> None:
    python(FORKING, *control_dirs)


def cold(control_dirs: list[Path]) -> None:
    for control_dir in control_dirs:
        python(COLD, control_dir)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cost_of_supervisors(launch: Callable[[list[Path]], None], count: int) -> float:
    """Seconds of CPU a launch, without the agent; the start of a forking parent is spread over all."""
    with tempfile.TemporaryDirectory() as folder:
        made = requests(Path(folder), count)
        for request in made:
            records.write_launch(request)
        before = cpu_seconds()
        launch([request.control_dir for request in made])
        return (cpu_seconds() - before) / count


def cost_of_launcher(count: int) -> tuple[float, float]:
    """Seconds of the agent's CPU and of time a launch."""
    launcher, ended = LocalLauncher(), 0
    with tempfile.TemporaryDirectory() as folder:
        cpu, clock = time.process_time(), time.monotonic()
        for request in requests(Path(folder), count):
            launcher.submit(request)
        while ended < count:
            ended += len(launcher.wait(timeout_seconds=10))
        cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    launcher.close()
    return cpu / count, clock / count


def main(count: int) -> None:
    agent, clock = cost_of_launcher(count)
    print(f"{count} launches of `true`, a launch:")
    print(f"  forked supervisor     {cost_of_supervisors(forked, count) * 1000:6.2f} ms CPU")
    print(f"  cold supervisor       {cost_of_supervisors(cold, count) * 1000:6.2f} ms CPU")
    print(f"  agent, LocalLauncher  {agent * 1000:6.2f} ms CPU, {clock * 1000:.2f} ms on the clock")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
