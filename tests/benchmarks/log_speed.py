"""How fast are old logs read, and in how much memory?

    python -m tests.benchmarks.log_speed [megabytes]

Only the parser of what torchtune printed, on one core, from memory: a log of progress bars, of which each epoch is one line;
random bytes; and one line without an end. Prints megabytes a second of CPU time, and the peak of the whole process.
"""

import random
import resource
import sys
import time
from collections.abc import Iterator

from experiments.parsers.torchtune_log import segments
from tests.lab import REPOSITORY

REAL = REPOSITORY / "tests" / "data" / "torchtune" / "run_lora1.err"
MEGABYTE = 10**6


def main() -> int:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for name, piece in (
        ("bars", REAL.read_bytes()),
        ("random bytes", _random()),
        ("one line", b"x" * MEGABYTE),
    ):
        began = time.process_time()
        found = sum(1 for _ in segments(_repeated(piece, megabytes * MEGABYTE)))
        speed = megabytes / (time.process_time() - began)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name}: {found} starts, {speed:.0f} MB/s, peak {peak_mib:.0f} MiB")
    return 0


def _random() -> bytes:
    return random.Random(0).randbytes(MEGABYTE)


def _repeated(piece: bytes, size: int) -> Iterator[bytes]:
    for _ in range(max(1, size // len(piece))):
        yield piece


if __name__ == "__main__":
    sys.exit(main())
