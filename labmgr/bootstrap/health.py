"""Whether the services can be used, asked from outside like anybody would."""

import http.client
import json
import socket
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from labmgr.bootstrap import files, processes, setup
from labmgr.bootstrap.configuration import Configuration, reachable
from labmgr.bootstrap.output import LabError


@dataclass(frozen=True)
class ServiceState:
    name: str
    state: str  # ready, starting, waiting, or stopped
    pid: int | None
    restarts: int
    last_end: str


def is_up(configuration: Configuration) -> bool:
    return files.is_locked(configuration.run_folder / "services.lock")


def as_it_runs(configuration: Configuration) -> Configuration:
    """With the addresses of the lab that is up, which another shell may have started with other settings."""
    listens = _written(configuration).get("listens") if is_up(configuration) else None
    if not listens or listens == configuration.listening:
        return configuration
    return replace(
        configuration,
        bind=listens["LABMGR_BIND"],
        port=int(listens["LABMGR_PORT"]),
        flower_port=int(listens["LABMGR_FLOWER_PORT"]),
        environment={**configuration.environment, **listens},
    )


def service_states(configuration: Configuration) -> list[ServiceState]:
    """As the supervisor last wrote it, every process looked at again."""
    states = []
    for name, entry in _written(configuration).get("services", {}).items():
        process = processes.read_pid_file(configuration.run_folder / f"{name}.pid")
        alive = process is not None and process.is_alive
        state = entry["state"] if alive else "stopped"
        pid = process.pid if process and alive else None
        states.append(ServiceState(name, state, pid, entry["restarts"], entry["last_end"]))
    return states


def _written(configuration: Configuration) -> dict[str, Any]:
    """What the supervisor last wrote down."""
    try:
        document: dict[str, Any] = json.loads((configuration.run_folder / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return document


def redis_answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def web_answers(address: str, port: int, path: str) -> bool:
    """Also where labmgr only wants to be spoken to by HTTPS and by another name: then it says so, and is there."""
    connection = http.client.HTTPConnection(reachable(address).strip("[]"), port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def node_is_live(configuration: Configuration, *, since: datetime) -> bool:
    """Whether the agent of this node has renewed its session since, by the database."""
    try:
        document = setup.last_json(setup.manage(configuration, "devices", "--json", timeout=60))
    except LabError:
        return False
    devices = document.get("devices")
    return isinstance(devices, list) and any(_is_renewed(configuration, device, since) for device in devices)


def _is_renewed(configuration: Configuration, device: dict[str, Any], since: datetime) -> bool:
    renewed = device["node_renewed_at"]
    is_ours = device["node"] == configuration.node_name
    return is_ours and renewed is not None and datetime.fromisoformat(renewed) >= since


def missing(configuration: Configuration) -> list[str]:
    """What does not answer yet, the cheap questions first."""
    lacking = []
    if configuration.redis_is_embedded and not redis_answers(configuration.redis_socket):
        lacking.append("redis")
    if not web_answers(configuration.bind, configuration.port, "/admin/login/"):
        lacking.append("web")
    unready = {state.name for state in service_states(configuration) if state.state != "ready"}
    lacking += [name for name in ("control", "node") if name in unready]
    if not lacking and not web_answers(configuration.bind, configuration.flower_port, "/healthcheck"):
        lacking.append("flower")
    return lacking
