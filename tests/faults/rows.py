"""The database's rows as records of the history: at a moment of the storm, and all of them at its end."""

import json
from collections import defaultdict
from typing import Any

from tests.faults.database import Database, Rows
from tests.faults.history import DeviceSeen, EventRow, JobRow, NodeSeen, OpenJob, RunRow

DEVICES = """
SELECT d.id, d.memory_mib, d.allocated_mib, COALESCE(SUM(l.memory_mib), 0), d.state
FROM scheduler_device d LEFT JOIN scheduler_lease l ON l.device_id = d.id AND l.released_at IS NULL
GROUP BY d.id, d.memory_mib, d.allocated_mib, d.state ORDER BY d.id"""
NODES = """
SELECT n.name, n.session_renewed_at, n.session_lost_at, n.allocated_cpu_threads, n.allocated_host_memory_mib,
       COALESCE(SUM(j.cpu_threads), 0), COALESCE(SUM(j.host_memory_mib), 0)
FROM scheduler_node n LEFT JOIN scheduler_job j ON j.node_id = n.id AND EXISTS (
    SELECT 1 FROM scheduler_lease l WHERE l.job_id = j.id AND l.released_at IS NULL)
GROUP BY n.name, n.session_renewed_at, n.session_lost_at, n.allocated_cpu_threads, n.allocated_host_memory_mib"""
OPEN_JOBS = """
SELECT j.id, n.name, j.state, e.on_node_lost FROM scheduler_job j
JOIN scheduler_node n ON n.id = j.node_id JOIN experiments_experiment e ON e.id = j.experiment_id
WHERE j.state <> 'ENDED'"""
ENDED_AND_HOLDING = """
SELECT DISTINCT j.id FROM scheduler_lease l JOIN scheduler_job j ON j.id = l.job_id
JOIN scheduler_node n ON n.id = j.node_id
WHERE l.released_at IS NULL AND j.state = 'ENDED' AND n.session_lost_at IS NULL"""
WINDOWS = """
SELECT e.name, e.open_jobs, COUNT(j.id) FROM experiments_experiment e
LEFT JOIN scheduler_job j ON j.experiment_id = e.id AND j.state <> 'ENDED'
GROUP BY e.name, e.open_jobs HAVING e.open_jobs <> COUNT(j.id)"""
PROGRESS = """
SELECT n.name, COUNT(j.started_at), COUNT(j.ended_at) FROM scheduler_node n
LEFT JOIN scheduler_job j ON j.node_id = n.id GROUP BY n.name"""
TICKS = "SELECT served, ticked_at FROM scheduler_tickrequest"
QUEUED = "SELECT kind, COUNT(*) FROM experiments_run WHERE state = 'QUEUED' GROUP BY kind"
UNFINISHED = """
SELECT COUNT(*) FROM experiments_run WHERE state IN ('QUEUED', 'RUNNING')"""
NOW = (DEVICES, NODES, OPEN_JOBS, ENDED_AND_HOLDING, WINDOWS, PROGRESS, TICKS, QUEUED)

RUNS = """
SELECT r.id, r.kind, r.name, r.spec, r.state, r.reason, e.name FROM experiments_run r
JOIN experiments_cell c ON c.id = r.cell_id JOIN experiments_experiment e ON e.id = c.experiment_id"""
EVENTS = "SELECT id, run_id, state, reason, job_id FROM experiments_runevent ORDER BY id"
JOBS = """
SELECT j.id, n.name, j.state, j.ending, e.on_node_lost FROM scheduler_job j
JOIN scheduler_node n ON n.id = j.node_id JOIN experiments_experiment e ON e.id = j.experiment_id"""
LAUNCHES = "SELECT job_id, run_id FROM scheduler_launch"
WHOLE = """
SELECT l.job_id, l.device_id FROM scheduler_lease l JOIN scheduler_device d ON d.id = l.device_id
WHERE l.memory_mib = d.memory_mib"""


def of_now(found: list[Rows]) -> dict[str, Any]:
    """Of what NOW found: the fields of a sample, except for its marks."""
    devices, nodes, jobs, holding, windows, *_ = found
    return {
        "devices": tuple(
            DeviceSeen(id=pk, memory_mib=memory, allocated_mib=given, leased_mib=int(leased), state=state)
            for pk, memory, given, leased, state in devices
        ),
        "nodes": tuple(_node(*row) for row in nodes),
        "open_jobs": tuple(
            OpenJob(id=pk, node=node, state=state, requeues=policy == "requeue")
            for pk, node, state, policy in jobs
        ),
        "ended_and_holding": tuple(pk for (pk,) in holding),
        "windows": tuple(f"{name} counts {n} open jobs of {held}" for name, n, held in windows),
    }


def marks(found: list[Rows]) -> dict[str, str]:
    """Of what NOW found: what changes while the nodes' agents and the ticker work."""
    progress, ticks = found[5], found[6]
    return {
        **{f"node:{name}": f"{started}/{ended}" for name, started, ended in progress},
        **{f"launches:{name}": str(started) for name, started, _ in progress},
        "tick": f"{ticks}",
    }


def of_the_end(database: Database) -> list[RunRow | EventRow | JobRow]:
    runs, events, jobs, launches, whole = database.look(RUNS, EVENTS, JOBS, LAUNCHES, WHOLE)
    carried, held = _grouped(launches), _grouped(whole)
    return [
        *(_run(*row) for row in runs),
        *(EventRow(id=pk, run=run, state=s, reason=r, job=job) for pk, run, s, r, job in events),
        *(
            JobRow(
                id=pk,
                node=node,
                state=state,
                ending=ending,
                runs=carried[pk],
                devices=held[pk],
                requeues=policy == "requeue",
            )
            for pk, node, state, ending, policy in jobs
        ),
    ]


def _node(
    name: str, renewed: Any, lost: Any, threads: int, memory: int, held_threads: int, held_memory: int
) -> NodeSeen:
    is_right = (threads, memory) == (int(held_threads), int(held_memory))
    told = f"counts {threads} threads and {memory} MiB, its jobs hold {held_threads} and {held_memory}"
    return NodeSeen(
        name=name, renewals=str(renewed), is_lost=lost is not None, miscounted="" if is_right else told
    )


def _run(pk: int, kind: str, name: str, spec: Any, state: str, reason: str, experiment: str) -> RunRow:
    document = json.loads(spec) if isinstance(spec, str) else spec
    key = document["argv"][2] if kind == "command" else f"{experiment}/{name}"
    return RunRow(id=pk, key=key, kind=kind, state=state, reason=reason)


def _grouped(pairs: Rows) -> dict[int, tuple[int, ...]]:
    grouped: dict[int, tuple[int, ...]] = defaultdict(tuple)
    for one, other in pairs:
        grouped[one] += (other,)
    return grouped
