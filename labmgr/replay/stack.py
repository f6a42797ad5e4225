"""The Celery workers of a replay: one for the control plane, and one for the simulated node of every pool."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_SECONDS = 20.0


class WorkerError(Exception):
    """A worker ended while the replay went on."""


def environment(*, folder: Path, database_url: str, redis_url: str, devices: int) -> dict[str, str]:
    """Of everything that belongs to the replay: nothing of the lab's own home, database or broker."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LABMGR_")}
    return inherited | {
        "LABMGR_HOME": str(folder / "home"),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SIMULATED_DEVICES": f"{devices}x80GiB",
        "LABMGR_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "labmgr.settings",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def node_name(number: int) -> str:
    """Of the simulated node of a pool."""
    return f"pool{number}-simulated"


class Workers:
    def __init__(self, processes: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
        self._processes = processes
        self._logs = logs

    def require_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                tail = (self._logs / f"{name}.log").read_text(errors="replace")[-500:]
                raise WorkerError(f"The worker {name} ended with {process.returncode}: {tail}")


@contextmanager
def workers(*, folder: Path, pools: Sequence[str]) -> Iterator[Workers]:
    """Runs them in the environment of this process, which has to be that of the replay."""
    commands = {"control": (_worker("control", "control", "-B"), "")}
    for number, pool in enumerate(pools):
        commands[f"pool{number}"] = (_worker(f"pool{number}", f"gpu.{node_name(number)}.0"), pool)
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(_running(name, command, pool, folder))
            for name, (command, pool) in commands.items()
        }
        yield Workers(processes, folder)


def _worker(name: str, queue: str, *more: str) -> list[str]:
    options = ["-Q", queue, "-n", f"{name}@replay", "-P", "threads", "-c", "2", "--loglevel", "WARNING"]
    options += ["--without-gossip", "--without-mingle", *more]
    return [sys.executable, "-m", "celery", "-A", "labmgr", "worker", *options]


@contextmanager
def _running(name: str, command: Sequence[str], pool: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=dict(os.environ) | {"LABMGR_NODE_NAME": name, "LABMGR_POOL": pool},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
