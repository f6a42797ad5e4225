"""The resident launcher: a small process that forks a supervisor for every job.

It reads control directories from a socket, a JSON line for those that start side by side, and answers each line once
their supervisors have their records on disk. While it hears nothing, it forks some ahead. It ends when the socket
closes, and its supervisors live on. Started by ResidentHandle as
`python -m scheduler.launchers.resident <descriptor of the socket>`, in its own session.
"""

import contextlib
import gc
import json
import os
import select
import signal
import sys
from collections.abc import Sequence

from scheduler.launchers import supervisor
from scheduler.launchers.spares import Spares

QUIET_MILLISECONDS = 20  # before each fork ahead: those that were just launched, and their jobs, come first


def serve(channel: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so the kernel reaps the supervisors
    supervisor.rehearse()  # what is looked up and kept once is shared by all supervisors
    gc.freeze()  # keeps the collector from touching, and so copying, pages that all supervisors share
    spares = Spares(channel=channel)
    with open(channel, encoding="ascii", closefd=False) as lines:
        while True:
            if not _has_come(channel, QUIET_MILLISECONDS if spares.are_wanted else None):
                spares.add()
            elif line := lines.readline():
                _answer(channel, _launch(json.loads(line)["control_dirs"], spares))
            else:
                return


def _has_come(channel: int, milliseconds: int | None) -> bool:
    poll = select.poll()  # select() cannot look at a descriptor above 1023, which the agent's may be
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _answer(channel: int, answers: Sequence[str]) -> None:
    with open(channel, "w", encoding="ascii", closefd=False) as out:  # whole, however long it is
        out.write(json.dumps({"answers": answers}) + "\n")


def _launch(control_dirs: Sequence[str], spares: Spares) -> list[str]:
    """Have a supervisor start for each, side by side; what they answered."""
    waited_for: list[int] = []
    refused: dict[int, str] = {}
    for number, control_dir in enumerate(control_dirs):
        try:
            waited_for.append(spares.launch(control_dir))
        except OSError as error:
            told = (
                f"no supervisor could be forked ({error}); look at the limits on processes, files and memory"
            )
            refused[number] = told
    answers = map(spares.answer, waited_for)
    return [refused[number] if number in refused else next(answers) for number in range(len(control_dirs))]


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the agent is gone
        serve(int(sys.argv[1]))
