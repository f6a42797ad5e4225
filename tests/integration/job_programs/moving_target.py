"""Forks itself again and again, each parent leaving at once, so that no list of pids is true for long.

moving_target.py <fifo>

Writes to the fifo once it is on its way. One process at a time, and none after half a minute.
"""

import os
import signal
import sys
import time
from pathlib import Path

LONGEST_SECONDS = 30

signal.signal(signal.SIGTERM, signal.SIG_IGN)
ends_at = time.monotonic() + LONGEST_SECONDS
if os.fork() == 0:
    Path(sys.argv[1]).write_text("moving")
    while time.monotonic() < ends_at and os.fork() == 0:
        os.setsid()
    os._exit(0)
signal.alarm(LONGEST_SECONDS)
signal.pause()
