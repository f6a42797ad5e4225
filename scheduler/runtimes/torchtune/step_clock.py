"""torchtune's DiskLogger with a clock: every line also says when it was written, and the process's peak memory so far.

`at` is unix time in seconds; `host_peak_mib` is the kernel's VmHWM. torchtune itself logs neither: its progress bar
has whole seconds, and on a CPU it measures no memory at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchtune.training.metric_logging import DiskLogger


class StepClock(DiskLogger):
    def log(self, name: str, data: Any, step: int) -> None:
        self.log_dict({name: data}, step)

    def log_dict(self, payload: Mapping[str, Any], step: int) -> None:
        stamp = {"at": f"{time.time():.3f}", "host_peak_mib": f"{host_peak_mib():.1f}"}
        super().log_dict({**payload, **stamp}, step)


def host_peak_mib() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
