"""The processes of one job, seen by its supervisor: they are what descends from it.

The supervisor is their subreaper: whatever a process does (fork twice, open sessions, lose its parent), it
stays a descendant, and "no child left" means that nothing of the job is left.
"""

import os
import resource
import signal
import time

from scheduler.launchers import process_tree

SAMPLE_SECONDS = 0.5


def boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps, and is never set


class JobTree:
    def __init__(self, main_pid: int) -> None:
        self.main_pid = main_pid
        self.exit_code: int | None = None  # of the main process, as is its signal
        self.signal: int | None = None
        self._peak_kib = 0
        self._next_sample_at = 0.0

    def alive(self) -> list[process_tree.Process]:
        return process_tree.descendants(os.getpid())

    def reap(self) -> bool:
        """Bury the dead; whether nothing is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.main_pid:
                self._take_status(os.waitstatus_to_exitcode(status))

    def _take_status(self, code: int) -> None:
        self.exit_code, self.signal = (code, None) if code >= 0 else (None, -code)

    @property
    def main_ended(self) -> bool:
        return self.exit_code is not None or self.signal is not None

    def sample(self) -> None:
        if (now := boot_clock()) >= self._next_sample_at:
            self._next_sample_at = now + SAMPLE_SECONDS
            alive = self.alive()
            alone = max((process_tree.peak_kib(process) for process in alive), default=0)
            self._peak_kib = max(self._peak_kib, alone, process_tree.rss_kib(alive))

    def peak_rss_mib(self) -> int | None:
        """The largest sum that was sampled, or the kernel's peak of the largest single process where that is more.

        So it is exact for a job of one process; of several, a peak between two samples may be missed. Their own peaks
        are not summed up: they need not have been at the same time.

        The kernel also counts what a process was before it executed its program: a copy of this supervisor.
        So up to the supervisor's own size its figure says nothing.
        """
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = max(self._peak_kib, largest if largest > own + 1024 else 0)
        return -(-peak // 1024) or None

    def wait_until_gone(self, seconds: float) -> bool:
        deadline = boot_clock() + seconds
        while not self.reap():
            left = deadline - boot_clock()
            if left <= 0:
                return False
            signal.sigtimedwait({signal.SIGCHLD}, min(left, SAMPLE_SECONDS))
        return True

    def end(self, *, grace_seconds: float) -> tuple[int, ...]:
        """TERM, grace, KILL until nothing is left; the pids that cannot be killed."""
        if self.reap():
            return ()
        for process in self.alive():
            process_tree.send_signal(process, signal.SIGTERM)
        if self.wait_until_gone(grace_seconds):
            return ()
        deadline = boot_clock() + process_tree.UNKILLABLE_AFTER_SECONDS
        while boot_clock() < deadline:
            process_tree.kill(self.alive)
            if self.wait_until_gone(0.1):
                return ()
        return tuple(process.pid for process in self.alive())

    def cpu_seconds(self) -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
