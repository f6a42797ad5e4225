"""What the stack has to do all along: simulated runs, some of them gangs and shares, and real programs that keep a ledger.

It goes in by `manage.py plan --approve`, as a person would send it, whenever the queue gets short.
"""

import json
import random
import threading
from collections.abc import Callable
from typing import Any

from tests.faults.history import Submitted, Writer
from tests.faults.stack import Stack

RUNS = 40  # of an experiment
SHORT_OF = {"command": 24, "simulated": 24}  # queued runs of a kind, below which more are submitted
LOOK_SECONDS = 1.0
SHORT_SECONDS, LONG_SECONDS = (0.3, 3.0), (7.0, 10.0)  # that a real run takes
ODDS = (7, 1)  # some outlive their agent's absence


class Workload(threading.Thread):
    """`queued` tells how many runs of a kind wait; None while nobody can see it."""

    def __init__(
        self,
        stack: Stack,
        writer: Writer,
        *,
        seed: int,
        first: int,
        long_seconds: tuple[float, float],
        queued: Callable[[], dict[str, int] | None],
    ) -> None:
        super().__init__(name="workload", daemon=True)
        self._stack = stack
        self._writer = writer
        self._dice = random.Random(f"{seed}/{first}")
        self._number = first
        self._spans = SHORT_SECONDS, long_seconds
        self._queued = queued
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            queued = self._queued()
            short = [
                kind for kind, least in SHORT_OF.items() if queued is not None and queued.get(kind, 0) < least
            ]
            for kind in short:
                self._submit(self._document(kind))
            if not short:
                self._stopping.wait(LOOK_SECONDS)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _submit(self, document: dict[str, Any]) -> None:
        """One that is refused, as by a database that is away, was never promised anything."""
        file = self._stack.folder / "documents" / f"{document['name']}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document))  # which is YAML, too
        done = self._stack.lab.run("manage", "plan", str(file), "--approve", timeout=300)
        if done.returncode == 0:
            self._writer.write(Submitted(experiment=document["name"], runs=len(document["cells"])))

    def _document(self, kind: str) -> dict[str, Any]:
        self._number += 1
        name = f"{kind}-{self._number}"
        document = {
            "name": name,
            "max_parallel": 1000,
            "on_node_lost": self._dice.choice(["requeue", "wait"]),
            "limits": {"timeout_seconds": 60},
        }
        return document | (self._commands(name) if kind == "command" else self._simulated())

    def _commands(self, name: str) -> dict[str, Any]:
        argv = [str(self._stack.working), str(self._stack.ledger), f"{name}/{{part}}", "{seconds}"]
        seconds = [
            round(self._dice.uniform(*self._dice.choices(self._spans, ODDS)[0]), 1) for _ in range(RUNS)
        ]
        cells = [{"part": part, "seconds": str(each)} for part, each in enumerate(seconds)]
        return {"command": {"argv": argv}, "cells": cells}

    def _simulated(self) -> dict[str, Any]:
        needs = self._dice.choice(
            [{"devices": 1}, {"devices": 2}, {"devices": 3}, {"device_memory_mib": 30_000}]
        )
        duration = round(self._dice.uniform(0.3, 3.0), 1)
        cells = [{"part": part} for part in range(RUNS)]
        return {"simulated": {"duration_seconds": duration}, "resources": needs, "cells": cells}
