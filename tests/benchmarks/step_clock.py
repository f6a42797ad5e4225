"""A metric logger that also keeps the clock, the CPU time and the peak memory of every step, beside DiskLogger's file.

torchtune instantiates it by its name, which PYTHONPATH makes known, so the recipe runs as it is installed. It also
listens to the recipe's own log for the moments at which training begins and a checkpoint is saved.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchtune.training.metric_logging import DiskLogger

MOMENTS = {
    " Profiler config after instantiation": "training",  # the last words of the set-up
    "Starting checkpoint save": "saving",
    "Checkpoint saved in": "saved",
}
MEMORY = re.compile(r"^(VmHWM|VmRSS|RssAnon|RssFile):\s+(\d+) kB$", re.MULTILINE)


class StepClock(DiskLogger):
    def __init__(self, log_dir: str, **kwargs: Any) -> None:
        super().__init__(log_dir, **kwargs)
        self._events = (Path(log_dir) / "events.jsonl").open("w", buffering=1)
        self._write(event="set-up")
        logging.getLogger("torchtune.utils._logging").addHandler(_Listener(self._write))

    def log_dict(self, payload: Mapping[str, Any], step: int) -> None:
        self._write(event="step", step=step, **_device_memory(payload))
        super().log_dict(payload, step)

    def close(self) -> None:
        self._write(event="end")
        super().close()

    def _write(self, **facts: Any) -> None:
        now = {"time": time.time(), "clock": time.perf_counter(), "cpu": time.process_time()}
        self._events.write(json.dumps({**facts, **now, **_memory_kib()}) + "\n")


class _Listener(logging.Handler):
    def __init__(self, write: Any) -> None:
        super().__init__()
        self._tell = write

    def emit(self, record: logging.LogRecord) -> None:
        for words, event in MOMENTS.items():
            if str(record.msg).startswith(words):
                self._tell(event=event)


def _memory_kib() -> dict[str, int]:
    status = Path("/proc/self/status").read_text()
    return {name: int(value) for name, value in MEMORY.findall(status)}


def _device_memory(payload: Mapping[str, Any]) -> dict[str, float]:
    """On a GPU torchtune measures it itself, in GiB."""
    return {name: float(value) for name, value in payload.items() if name.startswith("peak_memory_")}
