"""How an automatic window (max_parallel: auto) moves: up one at a time while devices idle, down by half. Pure.

A change is proven when a run that was started after it has succeeded, or has run for PROVEN_AFTER_SECONDS. Success alone would
leave most devices idle for as long as the first runs take, which may be days; a run that is too large mostly says so soon.
"""

from dataclasses import dataclass

PROVEN_AFTER_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class WindowFacts:
    devices: int  # of the pools that its runs ask for, whoever has them now
    ran_out_of_memory: bool  # a run that was started since the last halving
    is_proven: bool  # the last change
    one_more_would_start: bool  # now, if only the window were larger by one


def next_window(window: int, facts: WindowFacts) -> int:
    """Never below 1, nor above the number of devices."""
    most = max(1, facts.devices)
    if facts.ran_out_of_memory:
        return min(max(1, window // 2), most)
    if facts.is_proven and facts.one_more_would_start:
        return min(window + 1, most)
    return min(window, most)
