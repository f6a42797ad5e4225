"""Leaves a grandchild that has its own session, lost its parent and ignores TERM; then stays or leaves.

    stubborn_family.py <fifo> stay|leave

Writes the grandchild's pid to the fifo once all is set up. Nothing here outlives a minute.
"""

import os
import signal
import sys
from pathlib import Path

LONGEST_SECONDS = 60


def be_stubborn(ready: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(LONGEST_SECONDS)
    os.write(ready, str(os.getpid()).encode())
    os.close(ready)
    signal.pause()


def main(fifo: Path, stays: bool) -> None:
    answer, ready = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            be_stubborn(ready)
        os._exit(0)
    os.close(ready)
    os.wait()
    fifo.write_bytes(os.read(answer, 100))
    if stays:
        signal.alarm(LONGEST_SECONDS)
        signal.pause()


main(Path(sys.argv[1]), sys.argv[2] == "stay")
