"""From an estimate to the limits that people write down."""

import math

from experiments.figures import Figure

UNBOUNDED_MARGIN = 2.0  # over a value whose error is not known yet
_STEPS_MINUTES = ((60, 5), (240, 15), (1440, 60))  # up to so many minutes, rounded up to so many


def upper_seconds(seconds: Figure) -> float | None:
    """The upper bound of an estimate, or twice its value while its error is not known; None without evidence."""
    if seconds.value is None:
        return None
    return seconds.high if seconds.high is not None else UNBOUNDED_MARGIN * seconds.value


def slurm_time(seconds: Figure) -> str | None:
    """A `--time` that covers the upper bound, rounded up as Slurm users do: 5 minutes, 15, an hour, half a day."""
    upper = upper_seconds(seconds)
    if upper is None:
        return None
    minutes = max(1, math.ceil(upper / 60))
    step = next((step for most, step in _STEPS_MINUTES if minutes <= most), 720)
    rounded = math.ceil(minutes / step) * step
    days, rest = divmod(rounded, 1440)
    clock = f"{rest // 60:02}:{rest % 60:02}:00"
    return f"{days}-{clock}" if days else clock
