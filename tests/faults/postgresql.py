"""A PostgreSQL of a campaign's own, which comes back when it is ended, and can be stopped where it stands."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labmgr.bootstrap import processes
from labmgr.replay import servers
from labmgr.replay.servers import Identity
from scheduler.launchers import process_tree

KEEPER = Path(__file__).parent / "keeper.py"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Its URL. In a folder that was used before it goes on with the data that is there."""
    folder.mkdir(exist_ok=True)
    _end_what_was_left(folder)
    with servers.postgres(folder, options=servers.DURABLE, prepare=_kept) as url:
        yield url


class Postmaster:
    def __init__(self, folder: Path) -> None:
        self._status = folder / "data" / "postmaster.pid"

    @property
    def pid(self) -> int:
        """Raises ProcessLookupError where it does not run."""
        with suppress(OSError, ValueError, IndexError):
            return int(self._status.read_text().splitlines()[0])
        raise ProcessLookupError("PostgreSQL does not run")

    def is_ready(self) -> bool:
        with suppress(OSError):
            return self._status.read_text().rstrip().endswith("ready")
        return False

    def signal_all(self, how: int) -> None:
        """It and the processes of its connections, each of which has a group of its own."""
        postmaster = process_tree.find(self.pid)
        for process in [postmaster, *process_tree.descendants(self.pid)]:
            if process is not None:
                process_tree.send_signal(process, how)

    def end(self, *, orderly: bool) -> None:
        """In order all connections are closed; otherwise they break, and it has to recover from its log."""
        if process := process_tree.find(self.pid):
            process_tree.send_signal(process, signal.SIGINT if orderly else signal.SIGQUIT)


def _end_what_was_left(folder: Path) -> None:
    """By a campaign that was cut off: the server and its keeper, which would start it again."""
    left = Postmaster(folder)
    with suppress(ProcessLookupError):
        found = [process for process, _ in process_tree.lineage(left.pid)[:2]]
        if str(KEEPER) in processes.command_of(found[-1].pid):
            left.signal_all(signal.SIGCONT)
            process_tree.send_signal(found[-1], signal.SIGQUIT)
            processes.wait_until(lambda: not any(process_tree.is_alive(p.pid) for p in found), 30.0)


def _kept(_: Path, __: Path, identity: Identity) -> list[str]:
    return [sys.executable, str(KEEPER), str(identity.get("user", -1)), str(identity.get("group", -1))]
