"""Machines on one machine: network namespaces on a switch of their own, whose links can be cut. It takes root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD = "head"
_NETWORK = "10.77.0"  # seen in our namespaces only, so that it is in nobody's way


class Network:
    def __init__(self, *, machines: list[str]) -> None:
        self._numbers = {name: number for number, name in enumerate([HEAD, *machines], start=1)}
        self._prefix = f"lab{os.getpid()}"

    @property
    def clients(self) -> str:
        return f"{_NETWORK}.0/24"

    def address(self, machine: str) -> str:
        return f"{_NETWORK}.{self._numbers[machine]}"

    def namespace(self, machine: str) -> Path:
        return Path("/run/netns") / self._name(machine)

    def on(self, machine: str) -> list[str]:
        """What a command begins with to run there."""
        return ["nsenter", f"--net={self.namespace(machine)}", "--"]

    def cut(self, machine: str) -> None:
        """As if its cable was pulled."""
        _ip("-n", self._name(HEAD), "link", "set", f"to-{machine}", "down")

    def mend(self, machine: str) -> None:
        _ip("-n", self._name(HEAD), "link", "set", f"to-{machine}", "up")

    def make(self) -> None:
        for machine in self._numbers:
            _ip("netns", "add", self._name(machine))
            self._inside(machine, "link", "set", "lo", "up")
        self._inside(HEAD, "link", "add", "switch", "type", "bridge")
        self._inside(HEAD, "addr", "add", f"{self.address(HEAD)}/24", "dev", "switch")
        self._inside(HEAD, "link", "set", "switch", "up")
        for machine in self._numbers:
            if machine != HEAD:
                self._connect(machine)

    def remove(self) -> None:
        for machine in self._numbers:
            subprocess.run(["ip", "netns", "del", self._name(machine)], capture_output=True)

    def _connect(self, machine: str) -> None:
        port, peer = f"to-{machine}", self._name(machine)
        self._inside(HEAD, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", peer)
        self._inside(HEAD, "link", "set", port, "master", "switch")
        self._inside(HEAD, "link", "set", port, "up")
        self._inside(machine, "addr", "add", f"{self.address(machine)}/24", "dev", "eth0")
        self._inside(machine, "link", "set", "eth0", "up")

    def _inside(self, machine: str, *arguments: str) -> None:
        _ip("-n", self._name(machine), *arguments)

    def _name(self, machine: str) -> str:
        return f"{self._prefix}-{machine}"


def why_not() -> str:
    """Why there can be no such network here; empty when there can."""
    if os.getuid() != 0:
        return "network namespaces take root"
    lacking = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if lacking:
        return f"there is no {lacking[0]} (iproute2, util-linux)"
    network = Network(machines=["probe"])
    try:
        network.make()
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    finally:
        network.remove()
    return ""


@contextmanager
def network(*machines: str) -> Iterator[Network]:
    made = Network(machines=list(machines))
    try:
        made.make()
        yield made
    finally:
        made.remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
