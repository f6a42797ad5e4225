"""Beat's clock: intervals that go on evenly, whatever is done to the wall clock.

Celery's own scheduler compares wall-clock times, and keeps them in a file: after a clock was set back by an hour it
sends nothing for an hour, restarts of beat included.
"""

import time
from typing import Any

from celery.beat import Scheduler
from celery.schedules import schedule


class SteadyScheduler(Scheduler):
    """Everything is due at the start, and then every so many seconds; only plain intervals can be scheduled."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._due: dict[str, float] = {}  # by the monotonic clock
        super().__init__(*arguments, **options)

    def setup_schedule(self) -> None:
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; the seconds until something is again."""
        for name, entry in self.schedule.items():
            assert isinstance(entry.schedule, schedule)
            if time.monotonic() >= self._due.get(name, 0.0):
                self._due[name] = time.monotonic() + entry.schedule.seconds
                self.apply_entry(entry, producer=self.producer)
        return max(0.0, min(self._due.values()) - time.monotonic())
