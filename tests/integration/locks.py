"""Two transactions that meet in the order that a test says, on PostgreSQL."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection

from tests.integration.launching import LONG_SECONDS


def on_its_own_connection(act: Callable[[], object]) -> object:
    try:
        return act()
    finally:
        connection.close()


def until_somebody_waits_for_a_lock() -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        threading.Event().wait(0.02)
    pytest.fail("nobody waits for a lock")
