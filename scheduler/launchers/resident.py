"""The resident launcher: a small process that forks a supervisor for every job.

It reads control directories from a socket, one JSON line each, and answers each with a line once the
supervisor has its record on disk. It ends when the socket closes, and its supervisors live on. Started by
ResidentHandle as `python -m scheduler.launchers.resident <descriptor of the socket>`, in its own session.
"""

import contextlib
import gc
import json
import os
import signal
import sys
from pathlib import Path

from scheduler.launchers import supervisor


def serve(channel: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so the kernel reaps the supervisors
    gc.freeze()  # keeps the collector from touching, and so copying, pages that all supervisors share
    with open(channel, encoding="ascii", closefd=False) as lines:
        for line in lines:
            answer = _try_launch(Path(json.loads(line)["control_dir"]), channel)
            os.write(channel, (json.dumps({"answer": answer}) + "\n").encode())


def _try_launch(control_dir: Path, channel: int) -> str:
    try:
        return _launch(control_dir, channel)
    except OSError as error:
        return f"no supervisor could be forked ({error}); look at the limits on processes, files and memory"


def _launch(control_dir: Path, channel: int) -> str:
    """Fork a supervisor; what it answered, nothing if it died first."""
    answer, confirm = os.pipe()
    if os.fork() == 0:
        os.close(channel)  # the agent must see this socket close when the resident dies
        os.close(answer)
        supervisor.main(control_dir, confirm)
    os.close(confirm)
    with os.fdopen(answer, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the agent is gone
        serve(int(sys.argv[1]))
