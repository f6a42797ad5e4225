"""The database of a lab that a benchmark starts and throws away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labmgr.replay import servers


@contextmanager
def database(folder: Path, *, on_postgres: bool) -> Iterator[dict[str, str]]:
    """The setting that names it: a PostgreSQL with fsync=on, or none, which is the lab's own SQLite."""
    if not on_postgres:
        yield {}
        return
    (folder / "postgres").mkdir()
    with servers.postgres(folder / "postgres", options=servers.DURABLE) as url:
        yield {"DATABASE_URL": url}
