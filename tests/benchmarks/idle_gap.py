"""How long a slot stands idle between two runs, of labmgr and of what else queues on one machine, side by side.

    python -m tests.benchmarks.idle_gap [--peers labmgr,celery] [--runs N] [--repeats R] [--json]

200 runs of `sleep 2` and 400 of `sleep 0.05` on 8 slots. A peer that is not installed is named with how to install it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labmgr.replay.servers import ServerError
from tests.benchmarks import gaps
from tests.benchmarks.queue_peers import PEERS, recorder
from tests.benchmarks.queue_peers.base import Outcome, Peer, PeerError, Work

SLOTS = 8
WORK = ((200, 2.0), (400, 0.05))
HEAD = (
    "| runs | queue | on disk | wall, s | over the ideal | first start, s | gap p50, ms | p99, ms | max, ms |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
ROW = (
    "| {runs} x {title} | {peer} | {queue_on_disk} | {wall_seconds:.2f} | {over_ideal:.2f} | {first_start_seconds:.2f} "
    "| {gap_p50_ms} | {gap_p99_ms} | {gap_max_ms} |"
)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    peers, rows = _installed(options.peers), []
    if not options.json:
        print(HEAD)
    for row in _measured(peers, options):
        rows.append(row)
        if not options.json:
            print(_as_text(row), flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    return 1 if any(row["faults"] for row in rows) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS))
    parser.add_argument("--runs", type=int, help="so many of each kind instead")
    parser.add_argument("--seconds", type=float, help="only the runs that take so long")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return options


def _installed(names: Sequence[str]) -> list[Peer]:
    peers = []
    for name in names:
        if missing := PEERS[name].missing():
            print(f"{name} is left out: {missing}", file=sys.stderr)
        else:
            peers.append(PEERS[name])
    return peers


def _measured(peers: Sequence[Peer], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for _ in range(options.repeats):
        for count, seconds in WORK:
            if options.seconds in (None, seconds):
                for peer in peers:
                    yield _one(peer, count=options.runs or count, seconds=seconds)


def _one(peer: Peer, *, count: int, seconds: float) -> dict[str, Any]:
    """A peer that fails has a row that says so, and the others are measured all the same."""
    folder = Path(tempfile.mkdtemp(prefix="idle-gap-", dir="/tmp"))  # paths of sockets have to be short
    folder.chmod(0o755)  # the database's user has to pass through
    program = recorder.build(folder)
    work = Work(count=count, seconds=seconds, slots=SLOTS, recorder=program, record=folder / "record")
    row = {"peer": peer.name, "queue_on_disk": peer.queue_on_disk, "title": work.title, "runs": count}
    try:
        return row | _figures(work, peer.run(work, folder))
    except (PeerError, ServerError, subprocess.CalledProcessError) as error:
        return row | {"faults": [str(error)]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _figures(work: Work, outcome: Outcome) -> dict[str, Any]:
    ran = gaps.on_slots(recorder.read(work.record), outcome.slot_of)
    measured = gaps.measure(ran, submitted_at=outcome.submitted_at, seconds=work.seconds, slots=work.slots)
    faults = gaps.faults(ran, expected=work.count, slots=work.slots)
    return asdict(measured) | {"faults": faults, "details": dict(outcome.details)}


def _as_text(row: dict[str, Any]) -> str:
    faults = "".join(f"\n  {row['peer']}: {fault}" for fault in row["faults"])
    return (ROW.format(**row) if "wall_seconds" in row else "") + faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
