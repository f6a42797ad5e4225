"""This node's Celery worker: asks for its queues, then becomes the worker (the same process, so the same pid)."""

import os
import sys

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import services, setup
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, warn


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
