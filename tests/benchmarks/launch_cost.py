"""What it costs to launch a job: milliseconds of CPU per `true`, supervisor and job together.

    python tests/benchmarks/launch_cost.py [launches]

Compares supervisors forked from a process that has everything loaded, as by the resident launcher, with
supervisors that are Python interpreters of their own. Then the whole launcher: the agent's share and the time on the
clock of launches one after the other, without a pause in which supervisors are forked ahead; the time until several
were launched side by side, after such a pause; and memory.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scheduler.launchers import process_tree, records, spares  # noqa: E402
from scheduler.launchers.base import LaunchRequest  # noqa: E402
from scheduler.launchers.local import LocalLauncher  # noqa: E402

COLD = """
import os, sys
from scheduler.launchers import supervisor
orders, order = os.pipe()
os.write(order, os.fsencode(sys.argv[1]))
supervisor.main(orders, 1)
"""
FORKING = """
import gc, os, sys
from scheduler.launchers import resident, supervisor
supervisor.rehearse()
gc.freeze()
for folder in sys.argv[1:]:
    orders, order = os.pipe()
    os.write(order, os.fsencode(folder))
    if os.fork() == 0:
        supervisor.main(orders, os.dup(1))
    os.wait()
"""
ROUNDS = 15


def requests(folder: Path, count: int, *, argv: tuple[str, ...] = ("/bin/true",)) -> list[LaunchRequest]:
    return [
        LaunchRequest(
            job_id=number,
            argv=argv,
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
    launcher = LocalLauncher()
    with tempfile.TemporaryDirectory() as folder:
        cpu, clock = time.process_time(), time.monotonic()
        for request in requests(Path(folder), count):
            launcher.submit(request)
        await_endings(launcher, count)
        cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    launcher.close()
    return cpu / count, clock / count


def seconds_side_by_side(width: int) -> list[float]:
    """How long submit_all() took for so many at once, after a pause, in order."""
    launcher, took = LocalLauncher(), []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            made = requests(Path(folder), width)
            began = time.monotonic()
            launcher.submit_all(made)
            took.append(time.monotonic() - began)
            await_endings(launcher, width)
            await_spares(launcher)
    launcher.close()
    return sorted(took[1:])  # the first one also started the resident launcher


def memory_mib() -> tuple[float, float, float]:
    """The share (PSS) of the resident launcher, a spare and a supervisor with a job."""
    launcher = LocalLauncher()
    with tempfile.TemporaryDirectory() as folder:
        [made] = requests(Path(folder), 1, argv=("sleep", "3600"))
        launcher.submit(made)
        record = records.read_supervisor(made.control_dir)
        assert record and record.supervisor
        await_spares(launcher, beside=2)
        spare = next(child for child in children_of(launcher) if child.pid != record.supervisor.pid)
        pids = (launcher.resident_pid, spare.pid, record.supervisor.pid)
        resident, spare_mib, supervisor = (pss_mib(pid) for pid in pids if pid)
        launcher.cancel(job_id=made.job_id)
        await_endings(launcher, 1)
    launcher.close()
    return resident, spare_mib, supervisor


def pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def children_of(launcher: LocalLauncher) -> list[process_tree.Process]:
    assert launcher.resident_pid
    return process_tree.descendants(launcher.resident_pid)


def await_spares(launcher: LocalLauncher, *, beside: int = 0) -> None:
    """Until all are forked, beside the processes of jobs, and have gone to sleep."""
    while len(children_of(launcher)) < spares.COUNT + beside:
        time.sleep(0.01)
    time.sleep(0.1)


def await_endings(launcher: LocalLauncher, count: int) -> None:
    while count:
        count -= len(launcher.wait(timeout_seconds=10))


def main(count: int) -> None:
    agent, clock = cost_of_launcher(count)
    print(f"{count} launches of `true`, a launch:")
    print(f"  forked supervisor     {cost_of_supervisors(forked, count) * 1000:6.2f} ms CPU")
    print(f"  cold supervisor       {cost_of_supervisors(cold, count) * 1000:6.2f} ms CPU")
    print(f"  agent, LocalLauncher  {agent * 1000:6.2f} ms CPU, {clock * 1000:.2f} ms on the clock")
    for width in (1, 4, 8):
        low, middle, high = statistics.quantiles(seconds_side_by_side(width))
        print(
            f"  {width} side by side        {middle * 1000:6.2f} ms until launched"
            f" (half of {ROUNDS - 1} between {low * 1000:.2f} and {high * 1000:.2f})"
        )
    print(
        "memory: resident launcher {:.1f} MiB, a spare {:.1f} MiB, a supervisor {:.1f} MiB".format(
            *memory_mib()
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
