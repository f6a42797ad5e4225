"""The agent's end of the resident launcher: starts it when it is needed, and again when it died."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scheduler.launchers.base import LaunchError

ANSWER_SECONDS = 60.0  # a supervisor answers within milliseconds, unless its disk hangs
STOP_SECONDS = 2.0
TRIES = 5  # whatever kills it (a person, the kernel short of memory) may do so more than once in a row

_ROOT = Path(__file__).resolve().parents[2]
_PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "LANG",
)  # what Python may need to start


class _Started(NamedTuple):
    process: subprocess.Popen[bytes]
    channel: socket.socket


class ResidentHandle:
    def __init__(self) -> None:
        self._started: _Started | None = None

    @property
    def pid(self) -> int | None:
        return self._started.process.pid if self._started else None

    def launch(self, control_dirs: Sequence[Path]) -> list[str]:
        """Have a supervisor started for each; what they answered. Asking twice is harmless: the second one refuses."""
        names = ", ".join(map(str, control_dirs))
        for _ in range(TRIES):
            try:
                return self._ask(control_dirs)
            except ConnectionError:
                code = self.stop()
            except TimeoutError as error:
                self.stop()
                raise LaunchError(
                    f"No supervisor answered for {names} in {ANSWER_SECONDS:g} s. Look whether its "
                    "disk hangs. The job may have started: adopt it before launching it again."
                ) from error
        raise LaunchError(
            f"The resident launcher died {TRIES} times (exit code {code}) over {names}. To see why, run "
            f"`{' '.join(_command('0'))}` in {_ROOT}: it should wait for input."
        )

    def _ask(self, control_dirs: Sequence[Path]) -> list[str]:
        if self._started is None:
            self._started = _start()
        channel = self._started.channel
        channel.sendall((json.dumps({"control_dirs": [*map(str, control_dirs)]}) + "\n").encode())
        line = b""
        while not line.endswith(b"\n"):
            received = channel.recv(4096)
            if not received:
                raise ConnectionResetError("the resident launcher closed its socket")
            line += received
        return [str(answer) for answer in json.loads(line)["answers"]]

    def stop(self) -> int | None:
        """End the resident launcher, and so no job; its exit code."""
        if self._started is None:
            return None
        (process, channel), self._started = self._started, None
        channel.close()
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it waits for a supervisor that hangs
            process.kill()
            return process.wait()


def _command(descriptor: str) -> list[str]:
    return [sys.executable, "-B", "-S", "-P", "-m", "scheduler.launchers.resident", descriptor]


def _start() -> _Started:
    ours, theirs = socket.socketpair()
    ours.settimeout(ANSWER_SECONDS)
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with theirs:
        process = subprocess.Popen(
            _command(str(theirs.fileno())),
            env={**env, "PYTHONPATH": str(_ROOT)},
            cwd="/",
            stdin=subprocess.DEVNULL,  # or supervisors would keep our terminal or pipe open
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # so that neither Ctrl-C nor a signal to the worker's group reaches it
        )
    return _Started(process, ours)
