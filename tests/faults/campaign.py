#!/usr/bin/env python3
"""A storm of faults over a running stack, and a verdict: `tests/faults/campaign.py --seed 1 --faults 200 [--postgres]`.

Everything of it lies in one folder, which is told first; a campaign that was cut off goes on with `--resume FOLDER`.
Exit code 1 means that the checker found something.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labmgr.bootstrap import processes  # noqa: E402
from tests.faults import checker, postgresql, report, rows, storm  # noqa: E402
from tests.faults.faults import Faults  # noqa: E402
from tests.faults.findings import Finding  # noqa: E402
from tests.faults.history import Fault, History, Sample, Writer, now, read, read_ledger  # noqa: E402
from tests.faults.observer import Observer  # noqa: E402
from tests.faults.stack import NODE_LOST_AFTER, POSTGRES, Stack  # noqa: E402
from tests.faults.workload import LONG_SECONDS, Workload  # noqa: E402
from tests.lab import REPOSITORY  # noqa: E402

RETURN_SECONDS = 90.0  # within which everything has to be there again after the storm
LAST_LOOKS_SECONDS = 5.0  # within which the last ends are in the database, and seen there
LOOK_SECONDS = 0.1
MOST_MISSED = 20


@dataclass(frozen=True, kw_only=True)
class Campaign:
    seed: int
    faults: int
    postgres: bool = False
    gap_seconds: float = 1.0
    only: tuple[str, ...] = ()
    long_seconds: tuple[float, float] = LONG_SECONDS  # that a real run takes which is no short one
    patience_seconds: float = 90.0  # without the end of a run, after which the storm's aftermath is over

    def write(self, folder: Path) -> None:
        (folder / "campaign.json").write_text(json.dumps({**asdict(self), "boot_id": processes.boot_id()}))

    @classmethod
    def read(cls, folder: Path) -> "Campaign":
        """Times are those of one boot, so that a campaign cannot go on after another."""
        document = json.loads((folder / "campaign.json").read_text())
        if document.pop("boot_id") != processes.boot_id():
            sys.exit(f"{folder} is of before the machine was started anew; begin another campaign.")
        return cls(
            **{**document, "only": tuple(document["only"]), "long_seconds": tuple(document["long_seconds"])}
        )


def run(campaign: Campaign, folder: Path, *, checkout: Path = REPOSITORY) -> tuple[History, list[Finding]]:
    """Go on where an earlier one in this folder ended."""
    earlier = read(folder / "history.jsonl")
    done = max((record.number for record in earlier if isinstance(record, Fault)), default=0)
    writer = Writer(folder / "history.jsonl")
    with _database(campaign, folder) as url:
        stack = Stack(folder, checkout=checkout, database_url=url)
        try:
            stack.start()
            seen_at = max((each.at for each in earlier if isinstance(each, Sample)), default=now())
            observer = Observer(stack, writer, seen_at=seen_at)
            _go_through(campaign, stack, observer, writer, done)
        finally:
            writer.write(*stack.stop())
            writer.close()
    return judge(folder)


@contextmanager
def _database(campaign: Campaign, folder: Path) -> Iterator[str]:
    """The URL of a server where one is wanted, else nothing: SQLite is in the stack's home."""
    if not campaign.postgres:
        yield ""
        return
    folder.chmod(0o755)  # the server's user has to pass through
    with postgresql.server(folder / POSTGRES) as url:
        yield url


def _go_through(campaign: Campaign, stack: Stack, observer: Observer, writer: Writer, done: int) -> None:
    observer.start()
    first = len(list((stack.folder / "documents").glob("*")))
    workload = Workload(
        stack,
        writer,
        seed=campaign.seed,
        first=first,
        long_seconds=campaign.long_seconds,
        queued=lambda: observer.queued,
    )
    workload.start()
    faults = Faults(stack, writer)
    _storm(campaign, faults, done)
    workload.stop()
    _settle(campaign, stack, faults, observer)
    observer.stop()
    writer.write(*rows.of_the_end(stack.database), *stack.jobs_left())


def judge(folder: Path) -> tuple[History, list[Finding]]:
    records = [*read(folder / "history.jsonl"), *read_ledger(folder / "ledger")]
    history = History.of(records, node_lost_after=float(NODE_LOST_AFTER))
    return history, checker.check(history)


def _storm(campaign: Campaign, faults: Faults, done: int) -> None:
    """What cannot be done since its target is away is passed over, so that the plan is longer than the storm."""
    chosen = storm.kinds(on_postgres=campaign.postgres, only=campaign.only)
    planned = storm.plan(seed=campaign.seed, chosen=chosen, gap_seconds=campaign.gap_seconds)
    missed = 0  # in a row: a stack that stands still has nothing to hit, and the checker will say so
    for fault in islice(planned, done, None):
        if done >= campaign.faults or missed >= MOST_MISSED:
            return
        _wait(fault.after_seconds, faults)
        is_done = faults.do(fault, number=done + 1)
        done, missed = done + is_done, 0 if is_done else missed + 1


def _wait(seconds: float, faults: Faults) -> None:
    until = time.monotonic() + seconds
    while True:
        faults.look()
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, LOOK_SECONDS))


def _settle(campaign: Campaign, stack: Stack, faults: Faults, observer: Observer) -> None:
    """Until everything is back and all runs have ended, as far as they do: what does not is the checker's business."""

    def is_back() -> bool:
        faults.look()
        return faults.are_over and stack.are_all_back()

    processes.wait_until(is_back, RETURN_SECONDS, every=LOOK_SECONDS)
    stack.clock.set(ahead_seconds=0.0)
    _drain(campaign.patience_seconds, observer)
    processes.wait_until(lambda: not stack.jobs_alive(), 10.0, every=LOOK_SECONDS)
    observer.sees(lambda sample: not sample.open_jobs, seconds=LAST_LOOKS_SECONDS)


def _drain(patience_seconds: float, observer: Observer) -> None:
    left, since = observer.unfinished(), time.monotonic()
    while left != 0 and time.monotonic() - since < patience_seconds:
        time.sleep(1.0)
        before, left = left, observer.unfinished()
        if left != before:
            since = time.monotonic()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--postgres", action="store_true", help="on a throwaway PostgreSQL with fsync=on")
    parser.add_argument(
        "--gap", type=float, default=1.0, help="seconds from a fault to the next, in the mean"
    )
    parser.add_argument("--only", nargs="*", default=[], help="kinds of faults; see tests/faults/storm.py")
    parser.add_argument("--folder", type=Path, help="a new one, with a short path")
    parser.add_argument("--resume", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    folder = options.resume or options.folder or Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    if options.resume:
        campaign = Campaign.read(folder)
    else:
        campaign = Campaign(
            seed=options.seed,
            faults=options.faults,
            postgres=options.postgres,
            gap_seconds=options.gap,
            only=tuple(options.only),
        )
        folder.mkdir(exist_ok=True)
        campaign.write(folder)
    sys.stdout.write(f"The campaign lies in {folder}.\n")
    sys.stdout.flush()
    history, findings = run(campaign, folder)
    sys.stdout.write(report.report(history, findings) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
