"""What lives in a worker process beside its tasks: the ticker in the control worker, agents in a node's worker."""

import logging
from collections.abc import Callable
from dataclasses import replace

from django.conf import settings

from scheduler import inventory
from scheduler.agent import Agent
from scheduler.inventory.lookout import Lookout
from scheduler.launchers.local import LocalLauncher
from scheduler.launchers.simulated import SimulatedLauncher
from scheduler.models import Job
from scheduler.placed import Charge
from scheduler.ticker import Ticker

log = logging.getLogger(__name__)

CONTROL_QUEUE = "control"
SLOTS_A_DEVICE = 8

_agents: dict[str, Agent] = {}
_lookouts: list[Lookout] = []
_tickers: list[Ticker] = []


def readings() -> list[inventory.NodeReading]:
    """The nodes of this machine: the real one, and one of simulated devices where they are asked for."""
    nodes = [inventory.read_node(name=settings.NODE_NAME, cpu_slots=settings.CPU_SLOTS)]
    if settings.SIMULATED_DEVICES:
        name = f"{settings.NODE_NAME}-simulated"
        nodes.append(inventory.read_simulated(name=name, text=settings.SIMULATED_DEVICES))
    return [replace(node, pool=settings.POOL) for node in nodes]


def queues_of(reading: inventory.NodeReading) -> list[str]:
    """Simulated nodes use one queue; on real ones every device has its own."""
    indexes = [] if reading.is_simulated else [device.index for device in reading.devices]
    return [f"gpu.{reading.name}.{index}" for index in indexes or [0]]


def start(*, queues: list[str], send: Callable[[Charge], None]) -> None:
    """Start what belongs to the queues that this worker consumes."""
    if CONTROL_QUEUE in queues:
        _tickers.append(Ticker(send=send))
        _tickers[-1].start()
    for reading in readings() if any(queue.startswith("gpu.") for queue in queues) else []:
        if set(queues_of(reading)) & set(queues):
            launcher = SimulatedLauncher() if reading.is_simulated else LocalLauncher()
            _agents[reading.name] = Agent(reading=reading, launcher=launcher, send=send)
            _agents[reading.name].start()
            _lookouts.append(Lookout(node_name=reading.name))
            _lookouts[-1].start()


def stop() -> None:
    for ticker in _tickers:
        ticker.stop()
    for lookout in _lookouts:
        lookout.stop()
    for agent in _agents.values():
        agent.stop()


def attach(job_id: int) -> None:
    """Wait in the agent whose job it is; nothing happens for a job that is not open here."""
    knowing = (
        agent for agent in _agents.values() if agent.watches(job_id)
    )  # spares a connection to the database
    if agent := next(knowing, None) or _agents.get(_node_of(job_id)):
        agent.attach(job_id)


def wake(node: str) -> None:
    if node in _agents:
        _agents[node].wake()


def wake_tickers() -> None:
    for ticker in _tickers:
        ticker.wake()


def _node_of(job_id: int) -> str:
    return Job.objects.filter(pk=job_id).values_list("node__name", flat=True).first() or ""
