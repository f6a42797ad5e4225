"""Supervisors that are forked ahead of their jobs.

A process that was just forked copies every page of memory that it writes to, which is most of what a supervisor does
before it can answer. A spare has done that. It waits for the control directory of a job on a pipe, which closes when
the resident launcher ends, however it ends: then the spare ends, too. It holds no file of any job.
"""

import os
from typing import NamedTuple

from scheduler.launchers import supervisor

COUNT = 8  # jobs launched side by side that need not wait for a fork; each spare takes 2 MiB


class _Forked(NamedTuple):
    """The resident's ends of the pipes to a supervisor."""

    orders: int
    answer: int


class Spares:
    def __init__(self, *, channel: int) -> None:
        self._ours = {channel}  # kept by no supervisor: the agent must see the socket close, a spare its pipe
        self._waiting: list[_Forked] = []
        self.are_wanted = True

    def add(self) -> None:
        """Fork one more; where that fails, no more until the next launch says why."""
        try:
            self._waiting.append(self._fork())
            self.are_wanted = len(self._waiting) < COUNT
        except OSError:
            self.are_wanted = False

    def launch(self, control_dir: str) -> int:
        """Give a job to one that waits, or that is forked now; the descriptor on which it will answer."""
        self.are_wanted = True
        while self._waiting:
            spare = self._waiting.pop()
            if self._order(spare, control_dir):
                return spare.answer
            self._close(spare.answer)  # it died as it waited
        forked = self._fork()
        self._order(forked, control_dir)
        return forked.answer

    def answer(self, descriptor: int) -> str:
        """What a supervisor answered, nothing if it died first."""
        with open(descriptor, encoding="utf-8", closefd=False) as file:
            text = file.read()
        self._close(descriptor)
        return text

    def _order(self, forked: _Forked, control_dir: str) -> bool:
        try:
            os.write(forked.orders, os.fsencode(control_dir))
        except BrokenPipeError:
            return False
        finally:
            self._close(forked.orders)
        return True

    def _fork(self) -> _Forked:
        (orders, order), (answer, confirm) = _two_pipes()
        self._ours |= {order, answer}
        try:
            if os.fork() == 0:
                self._close(*self._ours)
                supervisor.main(orders, confirm)
        except OSError:
            self._close(order, answer)
            raise
        finally:
            self._close(orders, confirm)
        return _Forked(order, answer)

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self._ours -= {*descriptors}


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    first = os.pipe()
    try:
        return first, os.pipe()
    except OSError:
        for descriptor in first:
            os.close(descriptor)
        raise
