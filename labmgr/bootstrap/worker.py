"""This node's Celery worker: asks for its queues, then becomes the worker (the same process, so the same pid)."""

import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import services, setup
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, warn

NEEDS = """\
Makes this machine a node of a lab whose head runs ./lab up elsewhere. Starts this node's worker and nothing else: no web
server, no Redis, no database. It needs

  DATABASE_URL        what the head has: postgresql://USER:PASSWORD@HOST:PORT/NAME
  REDIS_URL           what the head has: redis://:PASSWORD@HOST:PORT/NUMBER
  LABMGR_RUN_ROOT     the head's run root, shared, under the same path as there
  LABMGR_DATASET_ROOTS, LABMGR_MODEL_ROOTS   likewise
  LABMGR_NODE_NAME    a name no other node has (if not set: the host name up to the first dot)
  LABMGR_HOME         on this machine's own disk (if not set: var/ in the checkout)

and the same commit as the head. Put the URLs into a file that only the account may read, not onto the command line.
TERM or Ctrl-C ends the worker and leaves its jobs; the next ./lab worker adopts them. See docs/running.md.
"""
SCHEMES = {"DATABASE_URL": ("postgresql", "postgres"), "REDIS_URL": ("redis", "rediss")}
EXAMPLES = {
    "DATABASE_URL": "postgresql://USER:PASSWORD@HOST:PORT/NAME",
    "REDIS_URL": "redis://:PASSWORD@HOST:PORT/NUMBER",
}


def require_servers(environ: Mapping[str, str]) -> None:
    """That both servers are named, and can be reached from another machine; no message repeats a URL."""
    lacking = [name for name in SCHEMES if not environ.get(name)]
    if lacking:
        raise LabError(
            f"A node joins a lab that is up elsewhere: set {' and '.join(lacking)} to what the lab's web server uses "
            "(PostgreSQL and a Redis server over TCP), and LABMGR_RUN_ROOT to the folder they share.",
            code=2,
        )
    for name in SCHEMES:
        _require_server(name, environ[name])


def _require_server(name: str, url: str) -> None:
    like = f"give one like {EXAMPLES[name]}, special characters in the password percent-encoded (@ is %40)."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its words may hold a part of the password
        raise LabError(f"{name} cannot be read as a URL; {like}", code=2) from None
    if parts.scheme not in SCHEMES[name] or not host:
        raise LabError(f"{name} names no server that another machine can reach; {like}", code=2)
    if name == "REDIS_URL" and not parts.password:
        raise LabError(
            f"REDIS_URL has no password: over a network Redis needs one (requirepass); {like}", code=2
        )


def require_a_place(configuration: Configuration) -> None:
    """That the lab can be joined from here: database, migrations, run root, name."""
    document = setup.last_json(setup.manage(configuration, "check_node", "--json", timeout=120))
    problems = document.get("problems")
    if not isinstance(problems, list):
        raise LabError(f"manage.py check_node said nothing of use: {document}")
    if problems:
        told = "\n".join(f"- {problem}" for problem in problems)
        raise LabError(
            f"This machine cannot join the lab as the node {configuration.node_name}:\n{told}", code=2
        )


def become(configuration: Configuration) -> None:
    document = setup.last_json(setup.manage(configuration, "node_queues", timeout=120))
    queues, slots = document.get("queues"), document.get("slots")
    if not isinstance(queues, list) or not queues or not isinstance(slots, int):
        raise LabError(f"manage.py node_queues named no queues for {configuration.node_name}: {document}")
    command = services.node_worker(configuration, queues=[str(queue) for queue in queues], slots=slots)
    environment = dict(configuration.environment)
    if service := os.environ.get("LABMGR_SERVICE"):
        environment["LABMGR_SERVICE"] = service
    os.chdir(configuration.repository)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    try:
        become(configurations.load())
    except LabError as error:
        warn(str(error))
        sys.exit(error.code)
