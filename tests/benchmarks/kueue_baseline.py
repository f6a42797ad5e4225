"""The workload of Kueue's published scheduler baseline, as a CSV for `manage.py replay`.

    python tests/benchmarks/kueue_baseline.py > kueue.csv
    python manage.py replay kueue.csv --devices 120 --pools 5 --postgres --json

Five pools of 120 units. In each, six queues, and in each of them 350 jobs of 1 unit, one every 100 ms, for 200 ms at
priority 50; 100 of 5 units, one every 500 ms, for 500 ms at 100; 50 of 20 units, one every 1,200 ms, for 1,000 ms at 200.
"""

import csv
import sys
from collections.abc import Iterator

POOLS, QUEUES = 5, 6
CLASSES = ((350, 0.1, 0.2, 1, 50), (100, 0.5, 0.5, 5, 100), (50, 1.2, 1.0, 20, 200))
COLUMNS = ("submit_seconds", "duration_seconds", "devices", "memory_mib", "priority", "user", "pool")


def rows() -> Iterator[tuple[object, ...]]:
    for pool in range(POOLS):
        for queue in range(QUEUES):
            for count, every, duration, devices, priority in CLASSES:
                for number in range(count):
                    submitted = round(number * every, 3)
                    yield (submitted, duration, devices, "", priority, f"queue{queue}", f"pool{pool}")


if __name__ == "__main__":
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows(), key=lambda row: float(str(row[0]))))
