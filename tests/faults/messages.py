"""What may become of messages: a rival that takes them from the queues before the workers do."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

LOOK_SECONDS = 0.2


def client(socket: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket), socket_timeout=3, socket_connect_timeout=2)


class Thief(threading.Thread):
    """For some seconds takes what comes, and drops it, gives it back at the end, or gives it back twice at once."""

    def __init__(self, socket: Path, *, queues: Sequence[str], seconds: float, what: str) -> None:
        super().__init__(name="thief of messages", daemon=True)
        self._client = client(socket)
        self._queues = list(queues)
        self._seconds = seconds
        self._what = what
        self.taken = 0

    def run(self) -> None:
        ends_at = time.monotonic() + self._seconds
        kept: list[Any] = []
        try:
            while time.monotonic() < ends_at:
                if found := self._client.brpop(self._queues, timeout=LOOK_SECONDS):
                    self.taken += 1
                    self._give_on(found, kept)
            for queue, message in kept:
                self._client.lpush(queue, message)
        except redis.RedisError:
            pass  # the broker is away, and what it was robbed of is lost
        finally:
            self._client.close()

    def _give_on(self, found: Any, kept: list[Any]) -> None:
        queue, message = found
        if self._what == "delay":
            kept.append(found)
        if self._what == "double":
            self._client.lpush(queue, message, message)
            time.sleep(LOOK_SECONDS)  # for the workers to take it, not we again
