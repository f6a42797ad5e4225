"""Whether a port is free, and who has it where that can be known."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from labmgr.bootstrap import processes
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError

LISTENING = "0A"  # as /proc/net/tcp writes it


def require_free(configuration: Configuration) -> None:
    for what, port, variable in (
        ("the admin", configuration.port, "LABMGR_PORT"),
        ("Flower", configuration.flower_port, "LABMGR_FLOWER_PORT"),
    ):
        if problem := why_not(configuration.bind, port):
            raise LabError(
                f"Port {port}, meant for {what}, cannot be used: {problem}. "
                f"Free it, or choose another: {variable}={port + 1000 if port < 64000 else 8001} ./lab up",
                code=2,
            )


def why_not(address: str, port: int) -> str:
    """Why nothing can listen there; empty when it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            return "ports below 1024 are for root"
        except OSError as error:
            owner = owner_of(port)
            return f"{owner} listens on it" if owner else (error.strerror or str(error))
    return ""


def owner_of(port: int) -> str:
    """The process that listens on the port; empty where it is not ours to see."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return ""
    for pid in processes.all_pids():
        if inodes.intersection(processes.open_files_of(pid)):
            return f"process {pid} ({processes.command_of(pid)[:60]})"
    return f"another process (see it with: ss -ltnp 'sport = :{port}')" if os.getuid() else "another process"


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"
