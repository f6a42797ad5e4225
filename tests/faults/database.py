"""The campaign's own eyes on the database: consistent looks that change nothing, on SQLite and on PostgreSQL."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Protocol

import psycopg

Rows = list[tuple[Any, ...]]
AWAY = (sqlite3.Error, psycopg.Error)


class Database(Protocol):
    def look(self, *queries: str) -> list[Rows]:
        """The rows of each, all of one moment. Raises one of AWAY."""


class SQLite:
    def __init__(self, url: str) -> None:
        self.path = url.removeprefix("sqlite:///")

    def look(self, *queries: str) -> list[Rows]:
        """See Database."""
        address = f"file:{self.path}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=3)) as connection:
            connection.execute("BEGIN")
            return [connection.execute(query).fetchall() for query in queries]


class PostgreSQL:
    def __init__(self, url: str) -> None:
        self._url = url

    def look(self, *queries: str) -> list[Rows]:
        """See Database."""
        with psycopg.connect(self._url, connect_timeout=3) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return [connection.execute(query).fetchall() for query in queries]


def database(url: str) -> Database:
    return SQLite(url) if url.startswith("sqlite") else PostgreSQL(url)


def one(rows: Sequence[tuple[Any, ...]]) -> Any:
    return rows[0][0] if rows else None
