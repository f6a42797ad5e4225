"""The resident launcher: a small process that forks a supervisor for every job.

It reads control directories from a socket, a JSON line for those that start side by side, and answers each line once
their supervisors have their records on disk. It ends when the socket closes, and its supervisors live on. Started by
ResidentHandle as `python -m scheduler.launchers.resident <descriptor of the socket>`, in its own session.
"""

import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from scheduler.launchers import supervisor


def serve(channel: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so the kernel reaps the supervisors
    gc.freeze()  # keeps the collector from touching, and so copying, pages that all supervisors share
    with open(channel, encoding="ascii", closefd=False) as lines:
        for line in lines:
            answers = _launch([Path(name) for name in json.loads(line)["control_dirs"]], channel)
            with open(channel, "w", encoding="ascii", closefd=False) as out:  # whole, however long it is
                out.write(json.dumps({"answers": answers}) + "\n")


def _launch(control_dirs: Sequence[Path], channel: int) -> list[str]:
    """Fork a supervisor for each, which start side by side; what they answered."""
    waited_for: list[int] = []
    refused: dict[int, str] = {}
    for number, control_dir in enumerate(control_dirs):
        try:
            waited_for.append(_fork(control_dir, ours=[channel, *waited_for]))
        except OSError as error:
            told = (
                f"no supervisor could be forked ({error}); look at the limits on processes, files and memory"
            )
            refused[number] = told
    answers = map(_answer, waited_for)
    return [refused[number] if number in refused else next(answers) for number in range(len(control_dirs))]


def _fork(control_dir: Path, *, ours: Sequence[int]) -> int:
    """Fork a supervisor; the descriptor on which it will answer. It keeps none of ours: the agent must see the socket
    close when the resident dies.
    """
    answer, confirm = os.pipe()
    if os.fork() == 0:
        for descriptor in (*ours, answer):
            os.close(descriptor)
        supervisor.main(control_dir, confirm)
    os.close(confirm)
    return answer


def _answer(descriptor: int) -> str:
    """What a supervisor answered, nothing if it died first."""
    with os.fdopen(descriptor, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the agent is gone
        serve(int(sys.argv[1]))
